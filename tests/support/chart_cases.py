"""Values that a chart is rendered with: what people choose, and both ends of it."""

PLACES = {
    "models": "gs://films/models",
    "registry": "gs://films/registry",
    "records": "gs://films/records",
    "monitoring": "gs://films/monitoring",
}
BUNDLE = "gs://films/models/custom-cnn/0f3a"
SERVED = {"storage": PLACES, "inferenceService": {"storageUri": BUNDLE}}
PROMETHEUS = {
    "operator": True,
    "address": "http://prometheus.monitoring.svc.cluster.local:9090",
    "labels": {"release": "prometheus"},
    "dashboards": {"enabled": True},
}
SCHEDULES = [
    {
        "name": "daily",
        "pipeline": "marquee-monitoring",
        "cron": "0 15 0 * * *",
        "parameters": {"run_uri": PLACES["monitoring"], "records_uri": PLACES["records"]},
    },
    {"name": "often", "pipeline": "marquee-monitoring", "every": "24h", "catchup": False},
]
KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQ==\n-----END PUBLIC KEY-----\n"
REPORTS = {"enabled": True, "secret": "marquee-reports"}
DIGEST = "sha256:" + "0123456789abcdef" * 4
EVERYTHING = {
    **SERVED,
    "storage": {**PLACES, "pvc": {"enabled": True}, "secret": {"enabled": True}},
    "images": {
        "prefix": "registry.example:5000/films/marquee",
        "pullSecrets": ["registry"],
        "train": {"digest": DIGEST},
    },
    "serviceAccounts": {
        name: {"annotations": {"iam.gke.io/gcp-service-account": f"{name}@films.example"}}
        for name in ("serving", "training", "monitoring")
    },
    "pipelines": {"serviceAccounts": ["pipeline-runner", "default-editor"], "namespace": "films"},
    "schedules": SCHEDULES,
    "serving": {
        "requireSignature": True,
        "trustedKeys": {"alice.pem": KEY},
        "samples": {"uri": "gs://films/samples"},
        "extraArgs": ["--url-host", "images.example.org"],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
        "nodeSelector": {"pool": "serving"},
        "tolerations": [{"key": "pool", "operator": "Exists", "effect": "NoSchedule"}],
    },
    "receiver": {"enabled": True},
    "training": {
        "nodeSelector": {"pool": "training"},
        "gpu": {"nodeSelector": {"pool": "gpu"}},
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
    },
    "reports": {**REPORTS, "route": {"kind": "virtualService", "host": "reports.films.example"}},
    "prometheus": PROMETHEUS,
    "tracing": {"endpoint": "http://otel-collector.observability.svc.cluster.local:4318"},
    "istio": {"enabled": True},
    "networkPolicies": {"clientNamespaces": ["web"]},
}
NOTHING = {
    "serving": {"enabled": False},
    "inferenceService": {"enabled": False},
    "training": {"enabled": False},
    "exporter": {"enabled": False},
    "pipelines": {"upload": False},
    "networkPolicies": {"enabled": False},
    "tests": {"enabled": False},
}
KEDA = {**SERVED["inferenceService"], "autoscaling": {"class": "keda"}}
CASES = {
    "defaults": {},
    "served": SERVED,
    "without-hooks": {**EVERYTHING, "helmHooks": False},
    "knative": {**SERVED, "kserve": {"mode": "Knative"}},
    "knative-to-zero": {
        **SERVED,
        "kserve": {"mode": "Knative"},
        "inferenceService": {
            **SERVED["inferenceService"],
            "minReplicas": 0,
            "containerConcurrency": 8,
            "autoscaling": {"metric": "rps", "target": 20},
        },
    },
    "everything-on-knative": {**EVERYTHING, "kserve": {"mode": "Knative"}},
    "keda": {**SERVED, "inferenceService": KEDA, "prometheus": PROMETHEUS},
    "no-autoscaling": {
        **SERVED,
        "inferenceService": {**SERVED["inferenceService"], "autoscaling": {"class": "none"}},
    },
    "prometheus": {**SERVED, "prometheus": PROMETHEUS},
    "istio": {**SERVED, "istio": {"enabled": True}, "reports": REPORTS},
    "volume": {
        "storage": {
            "monitoring": "/mnt/marquee/monitoring",
            "pvc": {"enabled": True, "storageClass": "disk", "accessMode": "ReadWriteOnce"},
        },
        "inferenceService": {"storageUri": "pvc://marquee-storage/models/0f3a"},
    },
    "secret-of-s3": {
        **SERVED,
        "storage": {"models": "s3://films/models", "secret": {"enabled": True}},
    },
    "secret-of-gcs": {
        **SERVED,
        "storage": {**PLACES, "secret": {"enabled": True, "kind": "gcs"}},
    },
    "gateway-api": {
        **SERVED,
        "reports": {
            **REPORTS,
            "route": {"kind": "httpRoute", "host": "reports.films.example", "gateway": "web"},
        },
    },
    "digests": {
        **SERVED,
        "images": {name: {"digest": DIGEST} for name in ("serving", "train", "monitoring")},
    },
    "a-profile-of-kubeflow": {
        **SERVED,
        "pipelines": {"serviceAccounts": ["default-editor"], "namespace": "films"},
        "schedules": SCHEDULES,
    },
    "openshift": {
        **SERVED,
        "networkPolicies": {
            "dns": {
                "namespace": "openshift-dns",
                "podLabels": {"dns.operator.openshift.io/daemonset-dns": "default"},
                "ports": [5353],
                "cidrs": ["169.254.20.10/32"],
            },
            "istioNamespace": "",
        },
    },
    "anonymous": {**SERVED, "serving": {"access": "anonymous"}},
    "cpus-as-set-gives-them": {
        **SERVED,
        "serving": {"resources": {"requests": {"cpu": "1.5"}, "limits": {"cpu": 3}}},
    },
    "everything": EVERYTHING,
    "nothing": NOTHING,
}
