"""What people see after the storm: every page, its twin and /metrics of the installation answer, and say the same."""

import re
from collections.abc import Iterator
from typing import Any

import httpx

from monitoring.web.app import PAGES
from serving.demo.stage import Stage

PERSON = "demo-admin"


def faults(stage: Stage, done: int) -> list[str]:
    """What does not answer, or not truly, in words; ``done`` studies are known to be done."""
    try:
        return [*_metrics(stage, done), *_pages(stage, done)]
    except httpx.HTTPError as error:
        return [f"the pages or /metrics do not answer: {type(error).__name__}"]


def _metrics(stage: Stage, done: int) -> Iterator[str]:
    answer = httpx.get(f"http://127.0.0.1:{stage.port('METRICS')}/metrics", timeout=60)
    if answer.status_code != 200:
        yield f"/metrics answers {answer.status_code}"
    if "\nradfleet_up 1.0" not in answer.text:
        yield "/metrics does not say that the database answers"
    counted = re.findall(
        r'radfleet_studies_ended_24h\{clinic="[a-z]+",outcome="done"\} ([0-9.]+)', answer.text
    )
    if (total := sum(map(float, counted))) != done:
        yield f"/metrics counts {total:g} studies done, the database {done}"
    for part in ("web", "metrics", "monitor"):
        if f'radfleet_part_ready{{part="{part}"}} 1.0' not in answer.text:
            yield f"/metrics says that {part} is not ready"


def _pages(stage: Stage, done: int) -> Iterator[str]:
    key = stage.run("account", "key", "add", PERSON).split()
    with httpx.Client(base_url=f"http://127.0.0.1:{stage.port('WEB')}", timeout=60) as client:
        mark = re.findall(r'name="mark" value="([0-9a-f]{64})"', client.get("/sign-in").text)[0]
        word = next(word for word in key if word.startswith("rfa_"))
        client.post("/sign-in", data={"mark": mark, "name": PERSON, "key": word, "next": "/"})
        for path in PAGES:
            if "{" not in path:
                for address in (path, f"{path if path != '/' else '/index'}.json"):
                    if (status := client.get(address).status_code) != 200:
                        yield f"the page {address} answers {status}"
        studies: list[dict[str, Any]] = client.get("/studies.json").json()["studies"]
        if len(studies) < min(done, 50):
            yield f"the page of studies shows {len(studies)} of {done}"
        for row in studies[:2]:
            if (status := client.get(f"/studies/{row['study_id']}").status_code) != 200:
                yield f"the page of a study answers {status}"
