"""The RayService, its image and the application that Serve builds for it agree with each other and Settings.

Kubernetes drops fields that it does not know without a word, so the names used are written down here: those
of RayService and RayCluster in ray.io/v1, and of pods in Kubernetes 1.37.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from canonical.errors import TransientFailure
from ops.settings import Settings
from ops.wiring import Installation

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "ops" / "deploy"
RAYSERVICE = DEPLOY / "rayservice.yaml"
DOCKERFILE = DEPLOY / "Dockerfile"

SPEC = {"upgradeStrategy", "excludeHeadPodFromServeSvc", "serveConfigV2", "rayClusterConfig"}
CLUSTER = {"rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"}
AUTOSCALER = {"upscalingMode", "idleTimeoutSeconds", "resources", "env"}
HEAD = {"rayStartParams", "template"}
WORKERS = HEAD | {"groupName", "replicas", "minReplicas", "maxReplicas"}
POD = {"securityContext", "topologySpreadConstraints", "containers", "volumes"}
PROBES = {"livenessProbe", "readinessProbe"}
CONTAINER = PROBES | {
    "name",
    "image",
    "ports",
    "envFrom",
    "env",
    "resources",
    "securityContext",
    "volumeMounts",
}
PROBE = {"httpGet", "initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"}
NEEDED = {"TWINSYNC_DATABASE_URL", "TWINSYNC_AMQP_URL", "TWINSYNC_API_KEYS"}


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(RAYSERVICE.read_text()))


@pytest.fixture
def settings(documents: list[dict[str, Any]]) -> dict[str, str]:
    """The ConfigMap's."""
    return documents[0]["data"]  # type: ignore[no-any-return]


@pytest.fixture
def spec(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return documents[1]["spec"]  # type: ignore[no-any-return]


@pytest.fixture
def cluster(spec: dict[str, Any]) -> dict[str, Any]:
    return spec["rayClusterConfig"]  # type: ignore[no-any-return]


@pytest.fixture
def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Head first, then each group of workers."""
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


@pytest.fixture
def containers(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for group in groups for one in group["template"]["spec"]["containers"]]


def test_it_is_a_config_map_and_a_rayservice_of_the_version_that_is_served(
    documents: list[dict[str, Any]],
) -> None:
    told = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in documents]
    assert told == [("v1", "ConfigMap", "twinsync-settings"), ("ray.io/v1", "RayService", "twinsync")]


def test_it_has_only_fields_that_are_known(
    spec: dict[str, Any],
    cluster: dict[str, Any],
    groups: list[dict[str, Any]],
    containers: list[dict[str, Any]],
) -> None:
    assert spec.keys() == SPEC
    assert cluster.keys() == CLUSTER
    assert cluster["autoscalerOptions"].keys() == AUTOSCALER
    assert cluster["headGroupSpec"].keys() == HEAD
    assert all(group.keys() == WORKERS for group in cluster["workerGroupSpecs"])
    assert all(group["template"]["spec"].keys() <= POD for group in groups)
    assert all(one.keys() == CONTAINER for one in containers)
    assert all(one[probe].keys() <= PROBE for one in containers for probe in PROBES)


def test_every_container_finds_who_vouches_for_the_services(
    groups: list[dict[str, Any]], containers: list[dict[str, Any]]
) -> None:
    (place,) = {mount["mountPath"] for one in containers for mount in one["volumeMounts"]}
    assert place == "/home/twinsync/.postgresql", "where asyncpg looks"
    for group in groups:
        (volume,) = group["template"]["spec"]["volumes"]
        assert volume["secret"]["optional"], "not all of them are asked for certificates"


def test_a_change_of_the_pods_does_not_start_a_second_cluster(spec: dict[str, Any]) -> None:
    assert spec["upgradeStrategy"] == {"type": "None"}


def test_it_names_only_settings_that_exist() -> None:
    named = set(re.findall(r"TWINSYNC_([A-Z_]+)", RAYSERVICE.read_text()))
    assert named
    assert {name.lower() for name in named} <= Settings.model_fields.keys()


def test_its_settings_have_values_that_settings_take(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(isinstance(value, str) for value in settings.values())
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert Settings().data_dir.is_absolute()


def test_every_container_has_the_settings_and_takes_secrets_by_reference(
    containers: list[dict[str, Any]],
) -> None:
    for one in containers:
        assert one["envFrom"] == [{"configMapRef": {"name": "twinsync-settings"}}]
        taken = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in one["env"]}
        assert all(entry.keys() == {"name", "valueFrom"} for entry in one["env"])
        assert all((ref["name"], ref["key"]) == ("twinsync-secrets", name) for name, ref in taken.items())
        assert {name for name, ref in taken.items() if not ref.get("optional")} == NEEDED


def test_no_secret_is_written_into_it(documents: list[dict[str, Any]], settings: dict[str, str]) -> None:
    assert not any(one["kind"] == "Secret" for one in documents)
    assert not NEEDED & settings.keys()
    assert not re.search(r"://\S+:\S+@", RAYSERVICE.read_text())


def test_every_container_is_of_one_image_and_of_the_ray_in_the_lock(
    cluster: dict[str, Any], containers: list[dict[str, Any]]
) -> None:
    assert len({one["image"] for one in containers}) == 1
    assert f"\nray=={cluster['rayVersion']} " in (ROOT / "requirements.lock").read_text()


def test_every_container_is_limited_and_confined(
    groups: list[dict[str, Any]], containers: list[dict[str, Any]]
) -> None:
    assert all(one["resources"]["requests"] == one["resources"]["limits"] for one in containers)
    assert all(one["securityContext"]["allowPrivilegeEscalation"] is False for one in containers)
    user = int(re.findall(r"^USER (\d+)$", DOCKERFILE.read_text(), re.M)[-1])
    for group in groups:
        pod = group["template"]["spec"]["securityContext"]
        assert (pod["runAsNonRoot"], pod["runAsUser"]) == (True, user)


def test_the_head_offers_no_cpu_and_workers_what_their_pods_have(
    cluster: dict[str, Any], containers: list[dict[str, Any]]
) -> None:
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group, container in zip(cluster["workerGroupSpecs"], containers[1:], strict=True):
        assert group["rayStartParams"]["num-cpus"] == container["resources"]["requests"]["cpu"]


def test_a_worker_is_ready_while_it_can_answer(
    spec: dict[str, Any], containers: list[dict[str, Any]]
) -> None:
    port = yaml.safe_load(spec["serveConfigV2"])["http_options"]["port"]
    assert all({"name": "serve", "containerPort": port} in one["ports"] for one in containers)
    assert all(
        one["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": port} for one in containers[1:]
    )


def test_workers_come_and_go_within_bounds_and_one_may_fall(
    spec: dict[str, Any], cluster: dict[str, Any], settings: dict[str, str]
) -> None:
    """The rule of docs/scaling.md, with as few replicas as there may be."""
    (group,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert group["minReplicas"] <= group["replicas"] < group["maxReplicas"]
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    (deployment,) = application["deployments"]
    replicas = deployment["autoscaling_config"]["min_replicas"]
    hosts, ingests = int(settings["TWINSYNC_POOLED_HOSTS"]), int(settings["TWINSYNC_INGEST_MAX"])
    cores = 2 * hosts + 2 * ingests + replicas + 1
    assert (group["minReplicas"] - 1) * int(group["rayStartParams"]["num-cpus"]) >= cores


# --- the application -------------------------------------------------------------------------------------


@pytest.fixture
def serve_app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Ray is imported here alone: once it is, it reads no environment that a live test sets."""
    monkeypatch.setenv("TWINSYNC_DATA_DIR", str(tmp_path))
    import serve_app

    return serve_app


def built(serve_app: Any, name: str) -> Any:
    """As Serve builds what a configuration names."""
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

    return call_user_app_builder_with_args_if_necessary(getattr(serve_app, name), {})


def test_serves_own_schema_takes_the_configuration(spec: dict[str, Any]) -> None:
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import ServeDeploySchema

    told = ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"]))
    for deployment in told.applications[0].deployments:
        assert deployment.autoscaling_config is not None
        assert deployment.autoscaling_config.keys() <= AutoscalingConfig.model_fields.keys()


def test_replicas_come_and_go_as_settings_have_it_as_shipped(spec: dict[str, Any], serve_app: Any) -> None:
    """What the file says goes before what the application says: they must not differ without need."""
    from ray.serve.config import AutoscalingConfig

    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    (deployment,) = application["deployments"]
    told = AutoscalingConfig(**deployment["autoscaling_config"])
    shipped = Settings(http_replicas=told.min_replicas, http_replicas_max=told.max_replicas)
    assert AutoscalingConfig(**serve_app.replicas(shipped)["autoscaling_config"]) == told
    assert deployment["max_ongoing_requests"] == serve_app.REPLICA["max_ongoing_requests"]


@pytest.mark.parametrize("most", [None, 1, 3])
def test_without_a_greater_maximum_the_number_of_replicas_is_fixed(serve_app: Any, most: int | None) -> None:
    assert serve_app.replicas(Settings(http_replicas=3, http_replicas_max=most)) == {"num_replicas": 3}


def test_a_deployment_that_scales_takes_many_requests_at_a_time_all_the_same(
    serve_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSYNC_HTTP_REPLICAS", "2")
    monkeypatch.setenv("TWINSYNC_HTTP_REPLICAS_MAX", "4")
    deployment = built(serve_app, "app")._bound_deployment
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 4, 5)
    assert deployment.max_ongoing_requests == serve_app.ONGOING_REQUESTS_MAX


def test_serves_schema_would_refuse_a_typing_error(spec: dict[str, Any]) -> None:
    from ray.serve.schema import ServeDeploySchema

    told = yaml.safe_load(spec["serveConfigV2"].replace("import_path", "import_pat"))
    with pytest.raises(ValueError, match="import_path"):
        ServeDeploySchema.model_validate(told)


def test_the_configuration_names_a_builder_and_the_deployment_that_it_builds(
    spec: dict[str, Any], serve_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Installation] = []

    async def start_twins(installation: Installation) -> None:
        started.append(installation)

    monkeypatch.setattr(serve_app, "start_twins", start_twins)
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    module, _, name = application["import_path"].partition(":")
    assert module == serve_app.__name__
    deployment = built(serve_app, name)._bound_deployment
    assert [deployment.name] == [one["name"] for one in application["deployments"]]
    assert len(started) == 1


def test_beside_twins_that_run_the_application_starts_none(
    serve_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start_twins(_: Installation) -> None:
        raise AssertionError("they run")

    monkeypatch.setattr(serve_app, "start_twins", start_twins)
    assert built(serve_app, "app")._bound_deployment.name == "twinsync"


def test_building_waits_for_a_database_or_broker_that_is_away(
    serve_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [TransientFailure("the database is away"), TransientFailure("the broker is away"), None]

    async def start_twins(_: Installation) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(serve_app, "start_twins", start_twins)
    monkeypatch.setattr(serve_app, "START_AGAIN_S", 0.0)
    built(serve_app, "service")
    assert not answers


# --- the image -------------------------------------------------------------------------------------------


def test_the_image_installs_what_the_lock_file_names_and_nothing_else() -> None:
    installs = re.findall(r"(?:pip|apt-get|uv)\s+(?:\S+\s+)*?install\b.*", DOCKERFILE.read_text())
    assert [one.split(" && ")[0] for one in installs] == [
        "pip install --no-cache-dir --require-hashes -r /srv/requirements.lock"
    ]
    assert "index" not in DOCKERFILE.read_text()


def test_the_image_has_every_package_and_runs_as_a_user() -> None:
    text = DOCKERFILE.read_text()
    copied = {
        name.rstrip("/") for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for name in line.split()
    }
    packages = {one.parent.name for one in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages | {"serve_app.py", "requirements.lock"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    users = re.findall(r"^USER (\S+)$", text, re.M)
    assert users
    assert users[-1].isdecimal()
    assert int(users[-1]) > 0
    assert text.rindex("\nRUN") < text.rindex("\nUSER")
