"""People are told how a run ended, with the verdict and its reasons."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from components.rollout.notify import message
from components.rollout.notify_component import notify
from marquee import storage
from marquee.run_layout import RunLayout
from marquee.verdict import Check, Outcome, Verdict


class Webhook(HTTPServer):
    """Takes messages as Slack does."""

    def __init__(self, status=200):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.taken = status, []


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()


@pytest.fixture
def webhook(monkeypatch):
    with Webhook() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MARQUEE_WEBHOOK", f"http://127.0.0.1:{server.server_port}/secret")
        yield server
        server.shutdown()


@pytest.fixture
def layout(tmp_path):
    return RunLayout(str(tmp_path / "run"))


def verdict(outcome):
    check = Check(name="macro mAP", outcome=outcome, measured="gains -0.100", bound="more than 0")
    return Verdict(gate="quality", subject="a beside b", checks=(check,))


def fail(layout, sentence):
    said = {"step": "gate", "message": sentence, "remedy": "keep the champion", "exit_code": 4}
    storage.write_text(storage.join(layout.uri, "failure.json"), json.dumps(said))


def test_a_run_that_failed_says_why_once(layout, webhook):
    failed = verdict(Outcome.FAILED)
    storage.write_text(layout.gate, failed.to_json())
    fail(layout, failed.sentence())
    notify(layout.uri, SimpleNamespace(state="FAILED"))
    ((kind, document),) = webhook.taken
    assert kind == "application/json"
    assert document["text"].count("macro mAP: gains -0.100 (asked: more than 0)") == 1
    assert "keep the champion" in document["text"]
    assert layout.uri in document["text"]


def test_a_run_that_succeeded_tells_the_verdict(layout, webhook):
    storage.write_text(layout.gate, verdict(Outcome.PASSED).to_json())
    notify(layout.uri, SimpleNamespace(state="SUCCEEDED"))
    ((_, document),) = webhook.taken
    assert "succeeded" in document["text"]
    assert "The quality gate passed" in document["text"]


def test_a_run_that_was_killed_says_that_it_failed(layout):
    assert "failed" in message(layout, succeeded=False)


def test_nobody_to_tell_is_no_failure(layout, monkeypatch):
    monkeypatch.delenv("MARQUEE_WEBHOOK", raising=False)
    notify(layout.uri, SimpleNamespace(state="SUCCEEDED"))


def test_a_webhook_that_refuses_neither_fails_the_run_nor_is_named(layout, webhook, capsys):
    webhook.status = 500
    notify(layout.uri, SimpleNamespace(state="SUCCEEDED"))
    said = capsys.readouterr().err
    assert "nobody was told" in said
    assert "secret" not in said
