"""What must hold for each page as it is drawn, asked inside the browser: contrast, names, headings, width."""

# Contrast by WCAG 2.2: relative luminance of the text and of the nearest opaque ground behind it.
LOOK = """
(() => {
  const found = [];
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const line = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => line(v / 255))
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ratio = (one, two) => {
    const [a, b] = [light(one), light(two)].sort((x, y) => y - x);
    return (a + .05) / (b + .05); };
  const ground = node => { for (let n = node; n; n = n.parentElement) {
    const c = rgb(getComputedStyle(n).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const seen = node => node.checkVisibility() && !node.closest('.hidden, .skip, thead');
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !seen(node)) continue;
    const style = getComputedStyle(node), text = node.namespaceURI.endsWith('svg') ? style.fill : style.color;
    const value = ratio(rgb(text), ground(node));
    if (value < 4.5) found.push(`contrast ${value.toFixed(2)} of "${node.textContent.trim().slice(0, 30)}"`);
  }
  for (const node of document.querySelectorAll('input:not([type=hidden]), select'))
    if (!node.labels?.length) found.push(`no label: ${node.name}`);
  for (const node of document.querySelectorAll('img')) if (!node.alt) found.push(`no alt: ${node.src}`);
  for (const node of document.querySelectorAll('svg:not([aria-hidden=true], [aria-label])'))
    found.push(`a picture without words: ${node.outerHTML.slice(0, 60)}`);
  for (const node of document.querySelectorAll('.s'))
    if (!node.textContent.trim()) found.push('a status without its word');
  for (const node of document.querySelectorAll('table'))
    if (!node.caption || node.querySelector('th:not([scope])')) found.push('a table without caption or scopes');
  for (const node of document.querySelectorAll('a, button'))
    if (!node.textContent.trim() && !node.querySelector('img[alt]')) found.push('a link without a name');
  if (document.querySelectorAll('h1').length !== 1) found.push('not exactly one h1');
  if (!/[.:!?]$/.test(document.querySelector('h1')?.textContent.trim() || '')) found.push('the heading is no sentence');
  for (const node of document.querySelectorAll('dd')) {
    const px = Math.round(node.getBoundingClientRect().width);
    if (seen(node) && px < 60) found.push(`${px} px for "${node.textContent.trim().slice(0, 30)}"`);
  }
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) found.push(`wider than the window: ${wide}`);
  if (document.querySelector('script, [style]')) found.push('a script or an inline style');
  return found;
})()"""
