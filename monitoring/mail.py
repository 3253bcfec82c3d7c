"""Sends a change of a flag as e-mail by SMTP (RFC 5321): at most once.

Until the server has asked for the text nothing can have been delivered: what fails so far is tried again, or given up
where the server says never (5xx). Once the text is on its way only the server's answer tells; without it, or where
some of the recipients were refused, the notice is unsure and never sent again.
"""

import re
import smtplib
import ssl
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any
from urllib.parse import unquote, urlsplit

from registry.core.settings import Settings

TIMEOUT_S = 15.0
PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


def send(settings: Settings, change: Mapping[str, Any]) -> tuple[str, str]:
    """Send one change to everybody in ``mail_to``; (state of the notice, a word why). Never raises."""
    try:
        data = letter(settings, change).as_bytes(policy=SMTP)
        smtp = _connect(settings)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        # Also a wrong password: it may be mended before the last try.
        return "ready", str(getattr(error, "smtp_code", type(error).__name__))
    try:
        return _hand_over(smtp, settings.mail_from, recipients(settings), data)
    finally:
        with suppress(OSError, smtplib.SMTPException):
            smtp.close()


def recipients(settings: Settings) -> list[str]:
    """The addresses of ``mail_to``."""
    return [address.strip() for address in settings.mail_to.split(",") if address.strip()]


def letter(settings: Settings, change: Mapping[str, Any]) -> EmailMessage:
    """The message: what changed, the sentence, and where to look; no patient's data. Raises ValueError."""
    text = EmailMessage()
    text["From"], text["To"] = settings.mail_from, ", ".join(recipients(settings))
    text["Subject"] = (
        f"Radfleet: {change['clinic']}, {change['task']}: flag {change['flag']} {change['type']}"
    )
    text["Date"] = datetime.fromisoformat(change["at"])
    # One change is one message, whoever sends it again: readers of mail show it once.
    name = f"{change['flag']}.{change['change']}.{re.sub('[^0-9]', '', change['at'])}"
    text["Message-ID"] = f"<radfleet.{name}@{settings.mail_from.rpartition('@')[2].rstrip('>')}>"
    text["Auto-Submitted"] = "auto-generated"
    verdict = change["verdict"] or "none yet"
    text.set_content(
        f"{change['sentence']}\n\n"
        f"Flag {change['flag']} ({change['kind']}), now {change['state']}; verdict: {verdict}.\n"
        f"Look: radfleet flag show {change['flag']}\n"
    )
    return text


def _connect(settings: Settings) -> smtplib.SMTP:
    """A session with the server of ``mail_server``, signed in where a user is named. Raises OSError, SMTPException."""
    url = urlsplit(settings.mail_server)
    if url.scheme not in PORTS or not url.hostname:
        raise ValueError("mail_server is no smtp, smtp+starttls or smtps address")
    if url.username and url.scheme == "smtp":
        raise ValueError("a password is sent through TLS alone")
    port, trust = url.port or PORTS[url.scheme], ssl.create_default_context()
    smtp: smtplib.SMTP
    if url.scheme == "smtps":
        smtp = smtplib.SMTP_SSL(url.hostname, port, timeout=TIMEOUT_S, context=trust)
    else:
        smtp = smtplib.SMTP(url.hostname, port, timeout=TIMEOUT_S)
    try:
        if url.scheme == "smtp+starttls":
            smtp.starttls(context=trust)
        smtp.ehlo_or_helo_if_needed()
        if url.username:
            smtp.login(unquote(url.username), settings.secret("smtp-password"))
    except BaseException:
        smtp.close()
        raise
    return smtp


def _hand_over(smtp: smtplib.SMTP, sender: str, to: list[str], data: bytes) -> tuple[str, str]:
    try:
        code, _ = smtp.mail(sender)
        if code != 250:
            return _refused(code)
        codes = [smtp.rcpt(address)[0] for address in to]
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return "ready", type(error).__name__
    refused = [code for code in codes if code not in (250, 251, 252)]
    if len(refused) == len(codes):
        return _refused(min(refused, default=550))
    try:
        code, _ = smtp.data(data)
    except smtplib.SMTPDataError as error:  # it did not ask for the text
        return _refused(error.smtp_code)
    except (OSError, smtplib.SMTPException) as error:
        return "unsure", type(error).__name__
    if code != 250:
        return _refused(code)
    return ("unsure", f"{len(refused)} of {len(codes)} recipients refused") if refused else ("sent", "250")


def _refused(code: int) -> tuple[str, str]:
    """4xx means later, 5xx never; both say that nothing was taken."""
    return "given_up" if code >= 500 else "ready", str(code)
