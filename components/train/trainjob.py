"""Trains in the pods of a TrainJob: creates it, follows it, and leaves nothing behind."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from components.train.exchange import Exchange, Reported, digest
from components.train.job import DIGEST, job_name, pod_owner, task_of_pod, train_job
from components.train.job_client import JobClient
from components.train.job_state import (
    State,
    all_started,
    leader,
    ran_out_of_memory,
    started,
    state_of,
    troubles,
)
from components.train.order import Order, Place, TrainReport
from components.train.pods import Document
from components.train.settings import LaunchSettings
from marquee.errors import InfrastructureError, MarqueeError, Stopped, explain
from marquee.processes import postponed_stop
from marquee.settings import Settings

logger = logging.getLogger(__name__)

_POLL_SECONDS = 5.0
_AWAY_SECONDS = 600.0
"""How long the API server or storage may be away while a training runs."""
_GONE_SECONDS = 300.0
"""How long pods that are deleted may take: they write a checkpoint first."""
_BEAT_SECONDS = 30.0
_STOP_SECONDS = 0.05
_HOPELESS = (2, 3, 4)
"""Usage, data and quality: what another try would not mend; as in the runtimes' failure policy."""
_TAIL = 20
"""Lines of the log of a pod that failed."""


class TrainJob:
    """Trains through Kubeflow Trainer.

    Args:
        place: On what.
        launch: How trainings are started.
        client: The API server; that of this pod without it.
        poll: Seconds between two looks.
    """

    def __init__(
        self,
        place: Place,
        launch: LaunchSettings,
        client: JobClient | None = None,
        poll: float = _POLL_SECONDS,
    ) -> None:
        self._place, self._launch, self._poll = place, launch, poll
        self._client = client or JobClient()

    def train(self, order: Order, settings: Settings) -> TrainReport:
        """Train an architecture and seal its bundle.

        A training that is running already, because a step that is tried again had begun it, is
        followed, and one that has ended with a report is not done again; another one of the same
        name is replaced.

        Args:
            order: What is to be trained.
            settings: The settings of this process.

        Returns:
            The report.

        Raises:
            MarqueeError: What one of its processes says that did not fail because another had.
            UsageError: Trainer, the runtime or a right is missing.
            InfrastructureError: The pods did not start, were lost, or the API server was away.
            Stopped: This process was asked to stop; the job is deleted, its checkpoint stays.
        """
        exchange = Exchange(order.exchange)
        name = job_name(order)
        with postponed_stop() as asked_to_stop:
            training = self._begin(order, settings, exchange, asked_to_stop)

            def delete() -> bool:
                # Once: a wish that comes between two questions would be met by nobody.
                asked = asked_to_stop()
                if asked:
                    self._clean_up(name)
                return asked

            # A step that is cancelled has a second or less, whatever it waits for just now.
            with _meanwhile(delete, _STOP_SECONDS), _meanwhile(_sign(exchange), _BEAT_SECONDS):
                try:
                    return self._follow(name, exchange, asked_to_stop)
                except BaseException as error:
                    self._clean_up(name)
                    if isinstance(error, Reported) and error.exit_code in _HOPELESS:
                        _refuse(exchange, training)
                    raise

    def _clean_up(self, name: str) -> None:
        try:
            self._client.delete(name)
        except MarqueeError as error:
            logger.warning("train: could not delete the TrainJob %s: %s", name, error)

    def _begin(
        self,
        order: Order,
        settings: Settings,
        exchange: Exchange,
        asked_to_stop: Callable[[], bool],
    ) -> str:
        """See to it that the job runs; give what tells it from another of its name."""
        place = (self._place.nodes, self._place.gpus, self._place.gpu_type)
        wanted, owner = digest(order, settings, *place), pod_owner()
        job = train_job(order, self._place, self._launch, wanted, owner)
        name = job["metadata"]["name"]
        found = self._client.get(name)
        if found and self._is_ours(found, wanted, exchange):
            logger.info("train: following the TrainJob %s, which is there already", name)
            if owner:
                self._client.own(name, owner)
            return wanted
        refusal = exchange.refusal(wanted, task_of_pod())
        if refusal:
            logger.warning("train: not tried again, as it would end like the try before")
            raise refusal
        if found:
            logger.info("train: replacing the TrainJob %s", name)
            self._client.delete(name)
        self._await_end(name, asked_to_stop)
        exchange.begin(order, settings)
        exchange.beat()
        self._client.create(job)
        logger.info(
            "train: TrainJob %s of the runtime %s: %d nodes, %d GPUs each",
            name, job["spec"]["runtimeRef"]["name"], self._place.nodes, self._place.gpus,
        )  # fmt: skip
        return wanted

    @staticmethod
    def _is_ours(job: Document, wanted: str, exchange: Exchange) -> bool:
        """Tell whether a job is the training that is wanted, and runs or has left its report."""
        metadata = job["metadata"]
        return (
            metadata.get("annotations", {}).get(DIGEST) == wanted
            and "deletionTimestamp" not in metadata
            and (not state_of(job).ended or exchange.report() is not None)
        )

    def _await_end(self, name: str, asked_to_stop: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _GONE_SECONDS
        # Pods that are still there, even without their job, may still write.
        while self._client.get(name) or self._client.pods(name):
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"the TrainJob {name} of an earlier try, or a pod of it, does not go away",
                    remedy=f"see `kubectl describe trainjob {name}` and `kubectl get pods`",
                )
            self._wait(asked_to_stop)

    def _follow(
        self, name: str, exchange: Exchange, asked_to_stop: Callable[[], bool]
    ) -> TrainReport:
        """Follow a job until it is complete."""
        look = _Look(self._client, name, self._place.nodes, self._launch.start_minutes)
        away_since: float | None = None
        while True:
            try:
                end = self._end(look, exchange)
                away_since = None
            except Exception as fault:
                error = explain(fault)
                if not isinstance(error, InfrastructureError):
                    raise
                # It may be gone because of that.
                _check_stop(asked_to_stop)
                away_since = away_since or time.monotonic()
                if not look.is_away(error, away_since):
                    raise
            else:
                if isinstance(end, MarqueeError):
                    raise end
                if end:
                    return end
            self._wait(asked_to_stop)

    def _end(self, look: "_Look", exchange: Exchange) -> TrainReport | MarqueeError | None:
        """Look how a training ended; None while it runs.

        What went wrong is given, not raised: it is not that nothing could be seen.
        """
        state = look.again()
        if not state.ended:
            return None
        report = exchange.report()
        if report and state.kind == "Failed":
            # A pod was lost after the last step, and nothing of the training with it.
            logger.warning("train: %s, but the training had ended by then", state.words)
        if report:
            return report
        if state.kind == "Failed":
            return self._failure(state, look, exchange)
        return InfrastructureError(
            f"the TrainJob {look.name} is complete and left no report at {exchange.uri}",
            remedy="let its pods write there: check their account's rights",
        )

    def _wait(self, asked_to_stop: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._poll
        while not asked_to_stop() and time.monotonic() < deadline:
            time.sleep(min(0.2, self._poll))
        _check_stop(asked_to_stop)

    def _failure(self, state: State, look: "_Look", exchange: Exchange) -> MarqueeError:
        """Say why a job failed."""
        told, found = exchange.error(), look.troubles
        look.show_ends()
        if told and told.distance() == 0:
            return told
        words = "; ".join(f"{pod} {trouble}" for pod, trouble in found.items()) or "no pod is left"
        if ran_out_of_memory(found):
            return InfrastructureError(
                f"memory ran out while training ({words})",
                remedy="lower train.batch_size, raise train.accumulate, or give the task more "
                "memory; it goes on from the last checkpoint",
            )
        return InfrastructureError(
            f"the TrainJob {look.name} failed ({state.words}): {words}"
            + (f"; a process said: {told.message}" if told else ""),
            remedy="see its log above; the same step goes on from the last checkpoint",
        )


class _Look:
    """What is seen of a job from look to look; what is new is said once."""

    def __init__(self, client: JobClient, name: str, nodes: int, patience: float) -> None:
        self.name = name
        self.troubles: dict[str, str] = {}
        self._client, self._nodes, self._patience = client, nodes, 60 * patience
        self._pods: list[Document] = []
        self._started = False
        self._waits_since = time.monotonic()
        self._said: dict[str, str] = {}
        self._percent = 0
        self._pod, self._seen = "", ""

    def again(self) -> State:
        """Look once.

        Raises:
            InfrastructureError: The pods did not start in time, or the job was deleted.
        """
        job = self._client.get(self.name)
        if job is None or "deletionTimestamp" in job["metadata"]:
            raise _Gone(
                f"the TrainJob {self.name} was deleted by somebody",
                remedy="run the step again: it goes on from the last checkpoint",
            )
        state = state_of(job)
        self._pods = self._client.pods(self.name)
        self.troubles = troubles(self._pods)
        for pod, words in self.troubles.items():
            self._say(pod, words)
        self._show_log()
        self._show_progress(state)
        if state.kind == "Suspended":
            self._say(self.name, "is held back (suspended)")
            self._waits_since = time.monotonic()
        elif not state.ended:
            self._check_start()
        return state

    def is_away(self, error: InfrastructureError, since: float) -> bool:
        """Tell whether an error is one of an API server, or storage, that may come back."""
        if isinstance(error, _Gone) or time.monotonic() - since > _AWAY_SECONDS:
            return False
        self._say("it cannot be seen how far it is", str(error))
        return True

    def show_ends(self) -> None:
        """Show how the log ends of each pod that failed, but for the one that leads."""
        for pod in self._pods:
            name = pod["metadata"]["name"]
            if name in self.troubles and name != self._pod and started(pod):
                for line in self._client.log(name, lines=_TAIL):
                    _show(f"{name}: {_parted(line)[1]}")

    def _check_start(self) -> None:
        self._started = self._started or all_started(self._pods, self._nodes)
        waited = time.monotonic() - self._waits_since
        if self._started or waited < self._patience:
            if not self._started and not self._pods and waited > self._patience / 10:
                for words in self._client.warnings(self.name)[-1:]:
                    self._say(self.name, words)
            return
        said = self.troubles or dict.fromkeys(self._client.warnings(self.name)[-3:], "")
        words = "; ".join(f"{pod} {words}".strip() for pod, words in said.items())
        raise _Gone(
            f"the pods of the TrainJob {self.name} did not start in {self._patience / 60:g} "
            f"minutes: {words or 'Kubernetes does not say why'}",
            remedy="mend that and run the step again, or raise train.start_minutes",
        )

    def _show_progress(self, state: State) -> None:
        if state.percent is not None and state.percent // 10 != self._percent // 10:
            self._percent = state.percent
            logger.info("train: %d %%", state.percent)

    def _show_log(self) -> None:
        """Show what the pod that leads has said since the last look."""
        pod = leader(self._pods)
        if pod is None or not started(pod):
            return
        if pod["metadata"]["name"] != self._pod:
            self._pod, self._seen = pod["metadata"]["name"], ""
        since = None
        if self._seen:
            # Clocks differ: what was shown is told by its time, not by ours.
            age = time.time() - datetime.fromisoformat(self._seen).timestamp()
            since = max(60, round(2 * age))
        for line in self._client.log(self._pod, seconds=since):
            stamp, text = _parted(line)
            if not stamp:
                self._say(f"the log of {self._pod}", text)
            elif _order(stamp) > _order(self._seen):
                self._seen = stamp
                _show(text)

    def _say(self, what: str, words: str) -> None:
        if self._said.get(what) != words:
            self._said[what] = words
            logger.warning("train: %s: %s", what, words)


def _check_stop(asked_to_stop: Callable[[], bool]) -> None:
    if asked_to_stop():
        raise Stopped("training was stopped", remedy="run the same command again")


@contextmanager
def _meanwhile(act: Callable[[], bool], seconds: float) -> Iterator[None]:
    """Do something beside the block, again after some seconds, until it says that it is done."""
    ended = threading.Event()

    def run() -> None:
        while not act() and not ended.wait(seconds):
            pass

    threading.Thread(target=run, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _refuse(exchange: Exchange, training: str) -> None:
    """Let no other try end like this one; what this one says is not lost if that fails."""
    try:
        exchange.refuse(training, task_of_pod())
    except Exception as fault:
        logger.warning("train: could not forbid another try: %s", explain(fault) or fault)


def _sign(exchange: Exchange) -> Callable[[], bool]:
    """Give what leaves signs of life: pods whose launcher is gone stop."""

    def sign() -> bool:
        try:
            exchange.beat()
        except Exception as fault:
            logger.warning("train: could not leave a sign of life: %s", explain(fault) or fault)
        return False

    return sign


class _Gone(InfrastructureError):
    """There is nothing more to wait for."""


def _parted(line: str) -> tuple[str, str]:
    """Part a line of a log from its time; what the kubelet says in place of a log has none."""
    stamp, _, text = line.partition(" ")
    try:
        timed = datetime.fromisoformat(stamp).tzinfo is not None
    except ValueError:
        timed = False
    return (stamp, text) if timed else ("", line)


def _order(stamp: str) -> str:
    """Make times comparable: Kubernetes leaves zeros at the end of a fraction out."""
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"


def _show(line: str) -> None:
    """Show a pod's line as it is: it is a log line already."""
    print(line, file=sys.stderr, flush=True)
