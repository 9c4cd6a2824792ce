import json
import subprocess
import sys

import pytest

SAY = (
    "import logging; from marquee import log; log.configure();"
    "logging.getLogger('marquee.x').info('drew %d', 3);"
    "logging.getLogger('noise').info('not shown')"
)


def stderr_of(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return result.stderr.splitlines()


def test_people_get_lines():
    (line,) = stderr_of(SAY)
    assert line.endswith(" drew 3")
    assert not line.startswith("{")


def test_pods_get_json():
    (line,) = stderr_of(SAY, KUBERNETES_SERVICE_HOST="10.0.0.1")
    entry = json.loads(line)
    assert (entry["severity"], entry["message"], entry["logger"]) == ("INFO", "drew 3", "marquee.x")


def test_pods_get_fields_as_fields():
    code = (
        "import logging; from marquee import log; log.configure();"
        "logging.getLogger('marquee.x').info('%s', 'a text', extra={'fields': {'status': 200}})"
    )
    (line,) = stderr_of(code, KUBERNETES_SERVICE_HOST="10.0.0.1")
    entry = json.loads(line)
    assert entry["status"] == 200
    assert "message" not in entry
    (line,) = stderr_of(code)
    assert line.endswith(" a text")


@pytest.mark.parametrize("total", [4, None])
def test_long_work_says_how_far_it_is(total):
    code = (
        "from marquee import log; log.configure(); log._PROGRESS_SECONDS = 0\n"
        f"with log.progress('draw', {total}) as advance:\n"
        "    advance(1); advance(2)"
    )
    lines = stderr_of(code)
    assert len(lines) == 2
    assert ("3 of 4" if total else "3 done") in lines[1]
