"""What is trained, where it runs, and what comes of it: what a launcher knows, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from components.train.settings import TrainSettings
from marquee.errors import InfrastructureError
from marquee.run_layout import RunLayout
from marquee.settings import check_choice, check_range

GPU_TYPES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "T4": (("Tesla-T4",), ("nvidia-tesla-t4",), "t4"),
    "L4": (("NVIDIA-L4",), ("nvidia-l4",), "l4"),
    "L40S": (("NVIDIA-L40S",), (), "l40s"),
    "A10G": (("NVIDIA-A10G",), (), "a10g"),
    "A100": (
        (
            *("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-SXM4-80GB"),
            *("NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-80GB-PCIe"),
        ),
        ("nvidia-tesla-a100", "nvidia-a100-80gb"),
        "a100",
    ),
    "H100": (
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"),
        ("nvidia-h100-80gb", "nvidia-h100-mega-80gb"),
        "h100",
    ),
    "H200": (("NVIDIA-H200", "NVIDIA-H200-NVL"), ("nvidia-h200-141gb",), "h200"),
    "B200": (("NVIDIA-B200",), ("nvidia-b200",), "b200"),
}
"""What nodes that have a GPU are labelled with: by NVIDIA's GPU feature discovery
(`nvidia.com/gpu.product`), by GKE (`cloud.google.com/gke-accelerator`), and by Karpenter and EKS
(`instance-gpu-name`)."""
ANY_GPU = "any"
NODE_DISK = "none"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be trained."""

    catalog_uri: str
    split_uri: str
    """The split plan made for the catalog."""
    architecture: str
    """Such as `custom_cnn`."""
    weights: str
    """Where pretrained weights come from: `torchvision`, `random`, a file or a URI."""
    bundle_uri: str
    """Where the bundle goes; one that is there is replaced."""
    checkpoints_uri: str = ""
    """Where checkpoints are kept until the bundle is sealed; beside the bundle without it."""
    run: str = ""
    """The run's URI, for the bundle's lineage."""
    split_digest: str = ""
    """The split plan's digest, where it is known: another plan makes another order."""

    @classmethod
    def of_run(
        cls, layout: RunLayout, architecture: str, weights: str, split_digest: str = ""
    ) -> Self:
        """Order an architecture for a run of the pipeline."""
        return cls(
            catalog_uri=layout.catalog,
            split_uri=layout.split,
            architecture=architecture,
            weights=weights,
            bundle_uri=layout.bundle(architecture),
            checkpoints_uri=layout.checkpoints(architecture),
            run=layout.uri,
            split_digest=split_digest,
        )

    @property
    def checkpoints(self) -> str:
        """Where checkpoints are kept."""
        return self.checkpoints_uri or f"{self.bundle_uri.rstrip('/')}.checkpoints"

    @property
    def exchange(self) -> str:
        """Where a launcher and pods leave each other word; beside the checkpoints."""
        return f"{self.checkpoints.removesuffix('checkpoints')}job"


@dataclass(frozen=True, kw_only=True)
class Place:
    """On what a training runs.

    Raises:
        UsageError: A number is out of range, or the GPU's type is unknown.
    """

    nodes: int = 1
    """Machines that train together."""
    gpus: int = 0
    """GPUs of each."""
    gpu_type: str = ANY_GPU
    """A name in `GPU_TYPES`, or `any`."""
    storage_class: str = ""
    """Of the volume for each node's features: the cluster's default without it; `none` keeps them
    on the node's own disk."""
    task: Mapping[str, Any] = field(default_factory=dict)
    """What the KFP task carries for the pods that train, as `kfp.dsl.TaskConfig` has it; empty on
    a laptop."""

    def __post_init__(self) -> None:
        check_range("nodes", self.nodes, 1, 256)
        check_range("gpus", self.gpus, 0, 16)
        check_choice("gpu_type", self.gpu_type, (ANY_GPU, *GPU_TYPES))

    @classmethod
    def of_step(
        cls, nodes: int, gpus: int, gpu_type: str, storage_class: str, task_config: Any
    ) -> Self:
        """Take it from what a step of Kubeflow Pipelines is given.

        Args:
            nodes: See `Place`.
            gpus: See `Place`.
            gpu_type: See `Place`.
            storage_class: See `Place`.
            task_config: A `kfp.dsl.TaskConfig`; all of it is None on a laptop.
        """
        task = {name: value for name, value in vars(task_config).items() if value}
        return cls(
            nodes=nodes, gpus=gpus, gpu_type=gpu_type, storage_class=storage_class, task=task
        )


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a training gave."""

    architecture: str
    version: str
    """The bundle's version; empty in a process that does not lead."""
    bundle_uri: str
    validation: dict[str, float]
    history: list[dict[str, float]]
    """The learning curves: a row an epoch, of all phases in turn."""
    cross_validation: dict[str, list[float]]
    """Metrics of heads like this one's, a value a fold."""
    settings: TrainSettings


class PeerLost(InfrastructureError):
    """Another process ended first: it knows why."""
