"""Kubeflow Trainer and JobSet of ours: the pods of a TrainJob are processes of this machine.

Each pod runs what the trainer's container would, with the `PET_*` variables that Trainer injects,
all nodes on loopback. What becomes of the job when a pod fails is what our chart's runtimes say: 2,
3 and 4 fail it; all else ends all pods and begins all anew, together, as nodes of an old and of a
new group would wait for each other; 7 and a disruption do not count. Pods' logs, conditions and
progress can be read from the API as from a real one; a TrainJob is gone once its pods are, and it
goes with its owner.
"""

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kubernetes_api import Refusal

from marquee.processes import family, free_port

RUNTIMES = tuple(
    f"marquee-{kind}" for kind in ("cpu", "gpu", "multi-gpu", "multi-node", "multi-node-gpu")
)
MAX_RESTARTS = 4
_FINALIZER = "marquee.test/pods"
_RESERVED = ("PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR")


class TrainerController:
    """Follows the TrainJobs of an API server.

    Args:
        api: The API server.
        folder: For the tokens of progress reports.

    Attributes:
        runtimes: The ClusterTrainingRuntimes there are.
        hold: The status of pods that do not start; they start once it is None.
        jobs: The jobs there were, by name, the newest of each.
        told: What was said of progress.
        command: What pods run instead of the trainer's command, if anything.
    """

    def __init__(self, api, folder):
        self._api = api
        self.runtimes, self.hold = set(RUNTIMES), None
        self.jobs, self.told, self.command = {}, [], None
        self._ended = threading.Event()
        self._token = folder / "trainer-token"
        self._token.write_text("secret")
        self._status = ThreadingHTTPServer(("127.0.0.1", 0), _status_handler(self))
        api.controllers.append(self._admit)
        self._threads = [
            threading.Thread(target=self._status.serve_forever, args=(0.02,), daemon=True),
            threading.Thread(target=self._run, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._ended.set()
        self._status.shutdown()
        for thread in self._threads:
            thread.join()
        for job in self.jobs.values():
            job.signal(signal.SIGKILL)

    def preempt(self, name, index):
        """Take a node away: its pod is asked to stop, and begun anew elsewhere."""
        pod = self.jobs[name].pods[index]
        pod.disrupted = True
        pod.process.send_signal(signal.SIGTERM)

    def kill(self, name, index, reason="Error"):
        """Kill a pod with all that runs in it."""
        pod = self.jobs[name].pods[index]
        pod.reason = reason
        _kill(pod.process)

    def _admit(self, document):
        """Do what Trainer's webhook does, before a TrainJob is stored."""
        if document["kind"] != "TrainJob" or "deletionTimestamp" in document["metadata"]:
            return
        spec = document["spec"]
        reserved = {e["name"] for e in spec["trainer"].get("env", [])} & set(_RESERVED)
        runtime = spec["runtimeRef"]["name"]
        if runtime not in self.runtimes:
            deny(
                f'ClusterTrainingRuntime.trainer.kubeflow.org "{runtime}" not found: specified '
                "clusterTrainingRuntime must be created before the TrainJob is created"
            )
        if reserved:
            deny(f"must not have reserved envs, invalid envs configured: {sorted(reserved)}")
        for patch in spec.get("runtimePatches", []):
            for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
                pod = job["template"]["spec"]["template"]["spec"]
                names = [container["name"] for container in pod.get("containers", [])]
                if job["name"] != "node" or names not in ([], ["node"]):
                    deny("must not have replicated job or container that the runtime lacks")
                if any("env" in container for container in pod.get("containers", [])):
                    deny("must not have envs for the node containers")
        document["metadata"].setdefault("finalizers", [_FINALIZER])

    def _run(self):
        while not self._ended.wait(0.05):
            for document in self._api.all("TrainJob"):
                self._follow(document)
            for name, job in self.jobs.items():
                if not self._api.get("TrainJob", name, job.namespace):
                    job.signal(signal.SIGTERM)

    def _follow(self, document):
        metadata = document["metadata"]
        job = self.jobs.get(metadata["name"])
        if job is None or job.uid != metadata["uid"]:
            job = _Job(self._api, document, self._variables, self.command)
            self.jobs[metadata["name"]] = job
        if "deletionTimestamp" in metadata:
            job.signal(signal.SIGTERM)
            if not job.running():
                with self._api.changed:
                    gone = self._api.get("TrainJob", metadata["name"], job.namespace)
                    gone["metadata"]["finalizers"] = []
                    self._api.put(gone)
        elif not job.ended and not document["spec"].get("suspend"):
            job.follow(self.hold)

    @property
    def _variables(self):
        return {
            "KUBEFLOW_TRAINER_SERVER_URL": f"http://127.0.0.1:{self._status.server_port}",
            "KUBEFLOW_TRAINER_SERVER_TOKEN": str(self._token),
        }

    def tell(self, path, document):
        """Write progress into a TrainJob's status."""
        namespace, name = path.strip("/").split("/")
        self.told.append(document["trainerStatus"])
        with self._api.changed:
            job = self._api.get("TrainJob", name, namespace)
            if job:
                job["status"] = job.get("status", {}) | document
                self._api.put(job)


class _Job:
    """The pods of a TrainJob."""

    def __init__(self, api, document, variables, command):
        metadata, trainer = document["metadata"], document["spec"]["trainer"]
        self._api = api
        python, *words = command or trainer["command"]
        assert python == "python"
        self._command = [sys.executable, *words]
        self.name, self.namespace, self.uid = (
            metadata[key] for key in ("name", "namespace", "uid")
        )
        url = f"{variables['KUBEFLOW_TRAINER_SERVER_URL']}/{self.namespace}/{self.name}"
        given = {e["name"]: e["value"] for e in trainer.get("env", []) if "value" in e}
        own = {name: value for name, value in os.environ.items() if name not in given}
        self._variables = {
            **own,
            **given,
            **variables,
            "KUBEFLOW_TRAINER_SERVER_URL": url,
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(free_port()),
        }
        self._nodes = trainer["numNodes"]
        self.pods, self.groups, self.failures, self.ended = [], 0, 0, False
        self._failing = False

    def follow(self, hold):
        """Start the pods that are wanted, and see which have ended."""
        if not self.pods:
            self.groups += 1
            self.pods = [self._new_pod(index, hold) for index in range(self._nodes)]
        for pod in self.pods:
            if pod.process is None and hold is None:
                pod.start(self._command, self._variables)
            elif pod.process and pod.process.poll() is not None and not pod.counted:
                self._count(pod)
        if self._failing:
            self.signal(signal.SIGTERM)
            if not self.running():
                for pod in self.pods:
                    pod.remove()
                self.pods, self._failing = [], False
        elif not self.ended and all(p.process and p.process.poll() == 0 for p in self.pods):
            self._end("Complete", "AllJobsCompleted", "jobset completed successfully")

    def signal(self, number):
        for pod in self.pods:
            if pod.process and pod.process.poll() is None and number not in pod.sent:
                pod.sent.add(number)
                if number == signal.SIGKILL:
                    _kill(pod.process)
                else:
                    pod.process.send_signal(number)

    def running(self):
        return any(p.process and p.process.poll() is None for p in self.pods)

    def _new_pod(self, index, hold):
        pod = _Pod(self._api, self, index, f"{self.name}-node-0-{index}-{self.groups:05}")
        if hold is None:
            pod.start(self._command, self._variables)
        else:
            pod.write({"phase": "Pending", **hold})
        return pod

    def _count(self, pod):
        """Do what the failure policy says of a pod that has ended."""
        pod.counted = True
        code = pod.end()
        if code == 0 or self._failing or self.ended:
            return
        self.failures += not pod.disrupted and code != 7
        if code in (2, 3, 4) or self.failures > MAX_RESTARTS:
            self.signal(signal.SIGTERM)
            self._end("Failed", "FailedJobs", "jobset failed due to one or more job failures")
        else:
            self._failing = True

    def _end(self, kind, reason, message):
        self.ended = True
        condition = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": _now(),
        }
        with self._api.changed:
            job = self._api.get("TrainJob", self.name, self.namespace)
            job["status"] = job.get("status", {}) | {"conditions": [condition]}
            self._api.put(job)


class _Pod:
    def __init__(self, api, job, index, name):
        self._api, self._name, self._namespace = api, name, job.namespace
        self._index = index
        self._owner = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob"}
        self._owner |= {"name": job.name, "uid": job.uid}
        self.process, self.sent, self.counted = None, set(), False
        self.disrupted, self.reason = False, "Error"
        self._reader = None

    def start(self, command, variables):
        self.process = subprocess.Popen(
            command,
            env=variables | {"PET_NODE_RANK": str(self._index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        state = {"running": {"startedAt": _now()}}
        self.write({"phase": "Running", "containerStatuses": [self._container(state)]})

    def end(self):
        """Write how the pod ended; give its exit code."""
        self._reader.join()
        code = self.process.returncode
        code = 128 - code if code < 0 else code
        state = {"terminated": {"exitCode": code, "reason": self.reason if code else "Completed"}}
        phase = "Failed" if code else "Succeeded"
        self.write({"phase": phase, "containerStatuses": [self._container(state)]})
        return code

    def remove(self):
        self._reader.join()
        self._api.drop("Pod", self._name, self._namespace)

    def write(self, status):
        self._api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": self._name,
                    "namespace": self._namespace,
                    "ownerReferences": [self._owner],
                    "labels": {
                        "jobset.sigs.k8s.io/jobset-name": self._owner["name"],
                        "batch.kubernetes.io/job-completion-index": str(self._index),
                    },
                },
                "spec": {"containers": [{"name": "node", "image": "marquee-train"}]},
                "status": copy.deepcopy(status),
            }
        )

    def _container(self, state):
        return {
            "name": "node",
            "image": "marquee-train",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }

    def _read(self):
        for line in self.process.stdout:
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
            with self._api.changed:
                lines = self._api.logs.setdefault((self._namespace, self._name), [])
                lines.append(f"{stamp} {line.rstrip()}")


def _kill(process):
    """End a process and all below it: torchrun gives each of its own a session."""
    for pid in family(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def deny(why):
    """Refuse an object as an admission webhook does."""
    webhook = 'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request'
    raise Refusal(403, "Forbidden", f"{webhook}: {why}")


def _status_handler(controller):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            allowed = self.headers["Authorization"] == "Bearer secret"
            if allowed:
                controller.tell(self.path, body)
            self.send_response(200 if allowed else 403)
            self.end_headers()

    return Handler


def _now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def running_trainer(api, folder):
    controller = TrainerController(api, folder)
    try:
        yield controller
    finally:
        controller.stop()
