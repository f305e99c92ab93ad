#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The alert agent, called as Pacemaker calls it: mails that a sendmail gets, objects that a web server
gets, texts that want to be more than text, and receivers that fail, hang, or are not there.

usage: test-alert.py [PATTERN]    only the checks whose name contains PATTERN
Environment: ALERT_SHELL, the shell to run it with. Exit status: 0, 1, or 77 when not root."""

import email
import email.message
import email.policy
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator, NamedTuple

from checks import Skip, check, expect, main, say

AGENT = Path(__file__).resolve().parents[2] / "data" / "pacemaker" / "holdfast-alert"
SENDMAIL = '#!/bin/sh\ncat >"$MAIL.part" && mv "$MAIL.part" "$MAIL"\n'
HANGING = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n"
REASON = {"kind": "attribute", "node": "node1", "attribute_name": "holdfast-web-reason",
          "attribute_value": "guest-panic severity=fatal topology= id=3fa20c11 frozen"}
FAILED = {"kind": "resource", "node": "node1", "rsc": "web", "task": "monitor", "rc": "1",
          "target_rc": "0", "desc": "error", "interval": "10000"}
NASTY = 'say "no" \\ `id` $(id) %s\nBcc: spy@example.org\n.\n\x01 caf\u00e9 \u65e5\u672c \x7f end'
LIMIT_S = 60.0  # of a call that must end by itself long before


class Outcome(NamedTuple):
    code: int
    said: str


def alert(recipient: str, facts: dict[str, str], path: str = "", **settings: str) -> Outcome:
    """One call, with nothing in its environment but what Pacemaker puts there."""
    env = {f"CRM_alert_{key}": value for key, value in facts.items()}
    env.update(settings, CRM_alert_recipient=recipient, PATH=path or os.environ["PATH"],
               CRM_alert_timestamp="10:20:30.123456")
    shell = [os.environ["ALERT_SHELL"]] if "ALERT_SHELL" in os.environ else []
    done = subprocess.run([*shell, str(AGENT)], env=env, capture_output=True, text=True,
                          timeout=LIMIT_S, stdin=subprocess.DEVNULL, check=False)
    expect(not done.stdout, done.stdout)
    return Outcome(done.returncode, done.stderr)


# --- mail ----------------------------------------------------------------------------------------

class Mailbox:
    """A folder to put in front of PATH: its sendmail keeps the last mail."""

    def __init__(self, folder: Path, script: str = SENDMAIL):
        self.folder, self.file = folder, folder / "mail"
        program = folder / "sendmail"
        program.write_text(script)
        program.chmod(0o755)

    def send(self, facts: dict[str, str], recipient: str = "ops@example.org",
             **settings: str) -> Outcome:
        self.file.unlink(missing_ok=True)
        return alert(recipient, facts, path=f"{self.folder}:{os.environ['PATH']}",
                     MAIL=str(self.file), **settings)

    def is_empty(self) -> bool:
        return not self.file.exists()

    def mail(self, facts: dict[str, str], **settings: str) -> email.message.EmailMessage:
        done = self.send(facts, **settings)
        expect(done == (0, ""), done)
        message = email.message_from_bytes(self.file.read_bytes(), policy=email.policy.default)
        assert isinstance(message, email.message.EmailMessage)
        expect(not message.defects, message.defects)
        return message


@contextmanager
def mailbox(script: str = SENDMAIL) -> Iterator[Mailbox]:
    with tempfile.TemporaryDirectory() as folder:
        yield Mailbox(Path(folder), script)


@check
def a_mail_says_what_has_happened() -> None:
    with mailbox() as box:
        mail = box.mail(REASON, sender="cluster@example.org", cluster="east")
        expect(mail["To"] == "ops@example.org" and mail["From"] == "cluster@example.org", mail)
        expect(mail["Subject"].startswith("east: web on node1: guest-panic severity=fatal"), mail)
        body = mail.get_content()
        expect("holdfast dump" in body and "attribute_name: holdfast-web-reason" in body, body)
        expect("timestamp: 10:20:30.123456" in body, body)
        mail = box.mail({**REASON, "attribute_value": ""})
        expect(mail["Subject"] == "web on node1: in order again", mail["Subject"])
        expect("holdfast dump" not in mail.get_content(), mail)
        mail = box.mail(FAILED)
        expect(mail["Subject"] == "web: monitor on node1: error", mail["Subject"])
        expect(box.send(FAILED, recipient="mailto:ops@example.org").code == 0, "mailto:")


@check
def a_text_stays_a_text() -> None:
    """Quotes, newlines, control characters: no header more, no command, and nothing is lost."""
    with mailbox() as box:
        for facts in ({**REASON, "attribute_value": NASTY}, {**FAILED, "desc": NASTY},
                      {**FAILED, "rsc": NASTY}, {"kind": "fencing", "desc": NASTY}):
            mail = box.mail(facts, sender="cluster@example.org", cluster=NASTY)
            expect(sorted(mail.keys()) == sorted((
                "From", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type",
                "Content-Transfer-Encoding")), mail.keys())
            expect("uid=" not in mail.as_string() and len(mail["Subject"]) <= 200, mail)
            for part in ("`id` $(id) %s", "caf\u00e9 \u65e5\u672c", "Bcc: spy@example.org"):
                expect(part in mail.get_content(), mail.get_content())
        mail = box.mail(REASON, sender="a@b\nBcc: spy@example.org")
        expect("Bcc" not in mail, mail)


@check
def only_failures_unless_all_is_wanted() -> None:
    quiet = ({"kind": "resource", "rsc": "web", "task": "start", "rc": "0", "target_rc": "0",
              "node": "node1", "desc": "ok"},
             {"kind": "resource", "rsc": "web", "task": "monitor", "rc": "7", "target_rc": "7",
              "node": "node1", "desc": "not running"},
             {"kind": "node", "node": "node1", "desc": "member"},
             {"kind": "attribute", "node": "node1", "attribute_name": "holdfast-web",
              "attribute_value": "frozen"},
             {"kind": "attribute", "node": "node1", "attribute_name": "master-web",
              "attribute_value": "1000"})
    loud = (REASON, FAILED, {"kind": "node", "node": "node2", "desc": "lost"},
            {"kind": "fencing", "node": "node2", "desc": "Operation reboot of node2: OK"})
    with mailbox() as box:
        for facts in quiet:
            expect(box.send(facts) == (0, "") and box.is_empty(), facts)
            box.mail(facts, events="all")
        for facts in loud:
            box.mail(facts)
            box.mail(facts, events="all")


# --- web -----------------------------------------------------------------------------------------

class Web:
    """A server that keeps what is posted. status: its answer; 0: none, ever."""

    def __init__(self, status: int = 200):
        self.status = status
        self.posts: "queue.Queue[tuple[dict[str, str], bytes]]" = queue.Queue()
        self.is_over = threading.Event()
        web = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_POST(self) -> None:  # pylint: disable=invalid-name
                """Kept, and answered or not."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.posts.put(({k.lower(): v for k, v in self.headers.items()}, body))
                if not web.status:
                    web.is_over.wait(LIMIT_S)
                    return
                self.send_response(web.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Not on the standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook?a=b&c=[1]"

    def take(self) -> tuple[dict[str, str], dict[str, str]]:
        """Headers, and the object."""
        headers, body = self.posts.get(timeout=LIMIT_S)
        posted = json.loads(body.decode("utf-8"))
        expect(all(isinstance(value, str) for value in posted.values()), posted)
        return headers, posted

    def close(self) -> None:
        self.is_over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(LIMIT_S)


@contextmanager
def server(status: int = 200) -> Iterator[Web]:
    if not shutil.which("curl"):
        raise Skip("curl is not installed")
    web = Web(status)
    try:
        yield web
    finally:
        web.close()


@check
def a_web_server_gets_an_object() -> None:
    with server() as web, tempfile.NamedTemporaryFile("w") as headers:
        headers.write("Authorization: Bearer s3cret\n")
        headers.flush()
        done = alert(web.url, REASON, cluster="east", header_file=headers.name)
        expect(done == (0, ""), done)
        head, posted = web.take()
        expect(head["content-type"] == "application/json", head)
        expect(head["authorization"] == "Bearer s3cret", head)
        expect(posted == {
            "text": f"web on node1: {REASON['attribute_value']}", "cluster": "east",
            "kind": "attribute", "node": "node1", "attribute": "holdfast-web-reason",
            "value": REASON["attribute_value"], "time": "10:20:30.123456"}, posted)
        expect(alert(web.url, {**REASON, "attribute_value": ""}).code == 0, "cleared")
        posted = web.take()[1]
        expect(posted["value"] == "" and posted["text"].endswith("in order again"), posted)
        expect(alert(web.url, FAILED).code == 0, "an operation")
        posted = web.take()[1]
        expect((posted["resource"], posted["rc"], posted["expected_rc"]) == ("web", "1", "0"),
               posted)


@check
def an_object_keeps_every_character() -> None:
    with server() as web:
        for awkward in (NASTY, "".join(map(chr, range(1, 128))), "\\", '"', "\n", "\\u0041\\n"):
            done = alert(web.url, {**FAILED, "desc": awkward}, cluster=awkward)
            expect(done == (0, ""), done)
            posted = web.take()[1]
            expect(posted["description"] == awkward and posted["cluster"] == awkward,
                   (awkward, posted))


# --- receivers that fail -------------------------------------------------------------------------

def expect_failure(done: Outcome, began: float, limit_s: float, *words: str) -> None:
    took_s = time.monotonic() - began
    expect(done.code == 1 and all(word in done.said for word in words), done)
    expect(took_s < limit_s, f"took {took_s:.1f} s")
    say(f"{took_s:.2f} s: {done.said.strip().splitlines()[-1]}")


@check
def who_does_not_answer_is_given_up() -> None:
    """A server that takes the request and is silent; one that does not even accept; a mail program
    that cannot be stopped by SIGTERM."""
    limit_s = 20.0  # for the 2 + 2 seconds that are meant, on a machine that is busy
    with server(status=0) as web:
        began = time.monotonic()
        expect_failure(alert(web.url, REASON, timeout="2"), began, limit_s, "no answer", "2 s")
    with socket.socket() as deaf, socket.socket() as first:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        first.connect(deaf.getsockname())  # the only place in the queue is taken
        began = time.monotonic()
        expect_failure(alert(f"http://127.0.0.1:{deaf.getsockname()[1]}/", REASON, timeout="2"),
                       began, limit_s, "no answer")
    with mailbox(HANGING) as box:
        began = time.monotonic()
        expect_failure(box.send(REASON, timeout="1"), began, limit_s, "no answer")


@check
def what_cannot_be_told_is_an_error() -> None:
    with server(status=404) as web:
        began = time.monotonic()
        expect_failure(alert(web.url, REASON), began, LIMIT_S, web.url, "404")
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        began = time.monotonic()
        expect_failure(alert(f"http://127.0.0.1:{gone.getsockname()[1]}/", REASON), began,
                       LIMIT_S, "could not tell")
    with mailbox("#!/bin/sh\ncat >/dev/null\nexit 75\n") as box:
        began = time.monotonic()
        expect_failure(box.send(REASON), began, LIMIT_S, "ops@example.org", "75")
        expect_failure(box.send(REASON, sendmail="/no/such/program"), began, LIMIT_S, "/no/such")


@check
def wrong_settings_are_refused() -> None:
    for recipient, settings, word in (
            ("", {}, "recipient"), ("ftp://host/", {}, "ftp://host/"),
            ("file:///etc/passwd", {}, "file:///"),
            ("ops@example.org", {"events": "some"}, "some"),
            ("ops@example.org", {"timeout": "soon"}, "soon"),
            ("ops@example.org", {"timeout": "0"}, "timeout")):
        done = alert(recipient, REASON, **settings)
        expect(done.code == 1 and word in done.said, (recipient, settings, done))


if __name__ == "__main__":
    sys.exit(main())
