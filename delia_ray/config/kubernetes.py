"""Where a run's pods go on Kubernetes; what ``delia k8s render`` writes manifests from."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from delia_ray.config.data import Settings

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?([KMGT]i?)?$")]
"""An amount of memory or disk as Kubernetes writes it: ``16Gi``."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
"""The name of an object in Kubernetes."""
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""


class Pods(Settings):
    """The shape of a group's pods; requests equal limits, so that nothing is overcommitted."""

    cpus: int = Field(4, ge=1)
    """CPUs of each pod."""
    memory: Quantity = "16Gi"
    """Memory of each pod; Ray's object store takes 30 % of it."""
    disk: Quantity = "20Gi"
    """Room for logs, spilled objects and downloaded models."""
    gpus: int = Field(0, ge=0)
    """GPUs of each pod."""
    gpu_resource: str = "nvidia.com/gpu"
    """What the device plugin calls a GPU."""
    node_selector: dict[str, str] = {}
    """Labels that a pod's node must have, such as ``{node.kubernetes.io/instance-type:
    g6.xlarge}``."""
    tolerations: list[dict[str, Any]] = []
    """Taints that a pod may run in spite of, as Kubernetes writes them; those of GPU nodes and
    of ``spot`` are added."""


class Head(Pods):
    """The pod of the cluster's services and of the run's own process; it computes nothing."""

    cpus: int = Field(2, ge=1)
    """CPUs of the pod; Ray places no work on them."""
    memory: Quantity = "8Gi"
    """Memory of the pod."""


class SynthesisPods(Pods):
    """Pods for the engines. As many as ``synthesize.engine.replicas`` needs, the autoscaler
    adding and removing them between the fewest and the most."""

    spot: Literal["none", "gke", "eks", "karpenter"] = "none"
    """Take interruptible nodes, by the labels of this provider; what a lost pod had in flight
    is generated again, and nothing else."""
    idle_seconds: int = Field(120, ge=0)
    """How long a pod without work stays."""


class Redis(Settings):
    """Where the head keeps its state, so that a restarted head goes on with its workers."""

    address: str = "redis:6379"
    """Host and port; ``cluster/redis.yaml`` starts one of that name."""
    password_secret: Name = "redis"
    """Secret with the password."""
    password_key: str = "password"
    """The password's key in it."""


class Kubernetes(Settings):
    """Manifests for KubeRay: one worker group for synthesis, one for training."""

    namespace: Name = "delia"
    """Where all objects go."""
    image: str = "delia-ray:cpu"
    """The image, built by ``cluster/Dockerfile`` and pushed to your registry."""
    ray_version: str = Field("2.60.0", pattern=r"^\d+\.\d+\.\d+$")
    """The Ray in that image."""
    pull_secret: Name | None = None
    """Secret to pull the image with."""
    service_account: Name | None = None
    """Service account of the pods, for storage by workload identity instead of keys."""
    head: Head = Head()
    """The head's pod."""
    synthesis: SynthesisPods = SynthesisPods()
    """The engines' pods."""
    training: Pods = Pods()
    """The training workers' pods: as many as ``finetune.workers`` needs, all or none, never on
    interruptible nodes."""
    gang: Literal["none", "kueue", "volcano"] = "none"
    """What sees to it that the training pods start together: Kueue (0.18 or later, where it
    admits what the autoscaler adds) or Volcano (KubeRay's ``batchScheduler.name=volcano``)."""
    queue: Name | None = None
    """Kueue's LocalQueue or Volcano's Queue."""
    volume_claim: Name | None = None
    """PersistentVolumeClaim (ReadWriteMany) that all pods mount; None where ``storage`` is the
    URL of an object store."""
    volume_size: Quantity | None = None
    """Also render the claim, of this size; None takes one that exists."""
    volume_class: Name | None = None
    """Storage class of the rendered claim; it must offer ReadWriteMany."""
    mount: str = Field("/mnt/delia", pattern=r"^/[^:]+[^/]$")
    """Where the claim is mounted; ``storage`` and local paths of the recipe must lie below."""
    secrets: list[Name] = []
    """Secrets whose keys become environment variables of every pod: credentials of the object
    store (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), HF_TOKEN."""
    env: dict[Variable, str] = {}
    """Environment variables that are no secrets, such as AWS_ENDPOINT_URL."""
    token_secret: Name | None = None
    """Secret with Ray's token under ``auth_token``; None has the operator make one."""
    redis: Redis | None = None
    """Fault tolerance of the head; None has a lost head end the cluster, and the job is tried
    again."""
    network_policy: bool = True
    """Close the pods to everything but each other, the operator and ``metrics_namespace``."""
    operator_namespace: Name = "kuberay-system"
    """Where KubeRay's operator runs; it asks the dashboard how the job is."""
    metrics_namespace: Name | None = None
    """Where Prometheus runs, which may then read the pods' metrics."""
    user: int = Field(1000, ge=1)
    """User and group id of all processes; never root."""
    retries: int = Field(2, ge=0)
    """Times that a failed job is started again on a new cluster; it goes on where it stopped."""
    keep_seconds: int = Field(600, ge=0)
    """How long the pods of a finished job stay, for a look at them."""
    deadline_seconds: int | None = Field(None, ge=1)
    """The longest that a job may take; None sets no limit."""

    @model_validator(mode="after")
    def _fits(self) -> "Kubernetes":
        if (self.gang == "none") != (self.queue is None):
            raise ValueError(
                f"cluster.kubernetes: gang={self.gang} and queue={self.queue} belong together; "
                "give both, or neither"
            )
        if self.volume_size is not None and self.volume_claim is None:
            raise ValueError(
                f"cluster.kubernetes: volume_size={self.volume_size} renders a claim and needs "
                "its name, volume_claim"
            )
        if self.volume_class is not None and self.volume_size is None:
            raise ValueError(
                f"cluster.kubernetes: volume_class={self.volume_class} is of a rendered claim; "
                "give its volume_size too"
            )
        return self
