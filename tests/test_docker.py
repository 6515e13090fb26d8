"""What `docker/` holds, checked without a daemon: images, compose, KubeRay, Slurm, the Grafana dashboard."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ffpdata.serve.vllm_flags import plan_for

REPOSITORY = Path(__file__).resolve().parents[1]
DOCKER = REPOSITORY / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
SBATCH = DOCKER / "slurm" / "ffpdata.sbatch"
SECRET = re.compile(r"(?i)(password|secret|token|api_?key|access_?key)(?!_path)[a-z_]*\s*[=:]\s*[^\s$({]")
RAY_VERSION = re.search(r"^ray==(\S+)", (REPOSITORY / "requirements" / "base.txt").read_text(), re.MULTILINE)[1]  # type: ignore[index]

named = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, joined over line ends, without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest.strip()) for word, rest in pairs]


def tool(name: str) -> str:
    """A linter of this environment or of the machine; skip where there is none."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    return found or pytest.skip(f"{name} is not installed")


def test_there_is_an_image_for_each_kind_of_node() -> None:
    assert {path.stem for path in DOCKERFILES} == {"worker", "gpu", "vllm"}


@named
def test_bases_are_pinned(path: Path) -> None:
    stages: set[str] = set()
    for word, rest in instructions(path):
        if word != "FROM":
            continue
        image, *name = re.split(r"(?i)\s+as\s+", rest)
        stages.update(name)
        if image in stages:
            continue
        tag = image.partition("@sha256:")[2] or image.rpartition(":")[2]
        assert ":" in image, f"{image} has no tag"
        assert re.search(r"\d", tag), f"{image}: the tag names no version"
        assert "latest" not in image


@named
def test_the_last_user_is_not_root(path: Path) -> None:
    users = [rest for word, rest in instructions(path) if word == "USER"]
    assert users, "no USER"
    assert re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1]), "a number, which Kubernetes can check"


@named
def test_copied_paths_exist(path: Path) -> None:
    for word, rest in instructions(path):
        assert word != "ADD", "COPY says what it does"
        if word == "COPY" and "--from=" not in rest:
            *sources, _ = shlex.split(rest)
            for source in sources:
                assert (REPOSITORY / source).exists(), source


@named
def test_packages_come_by_hash_from_locks_that_exist(path: Path) -> None:
    for word, rest in instructions(path):
        if word != "RUN":
            continue
        assert "://" not in rest, "nothing is fetched past the package managers"
        for command in rest.split("&&"):
            if "pip install" in command and ".whl" not in command:
                assert "--require-hashes" in command
                lock = command.split("-r ", 1)[1].split()[0]
                assert (REPOSITORY / lock).is_file(), lock


def test_the_locks_of_images_name_one_ray() -> None:
    """Nodes of one cluster must have the same."""
    text = (REPOSITORY / "requirements" / "models.txt").read_text()
    assert f"\nray=={RAY_VERSION} " in text
    assert "://" not in text
    assert len(re.findall(r"^torch==", text, re.MULTILINE)) == 1


def test_nodes_have_one_python() -> None:
    """Ray refuses another patch level: both images take the distribution's."""
    bases = [
        {rest.split()[0] for word, rest in instructions(DOCKER / f"{name}.Dockerfile") if word == "FROM"}
        for name in ("worker", "gpu")
    ]
    assert all(re.search(r"ubuntu24\.04|ubuntu:noble", base) for one in bases for base in one)


def test_no_secrets() -> None:
    for path in sorted(DOCKER.rglob("*")):
        if path.is_file():
            found = SECRET.search(path.read_text())
            assert not found, f"{path.name}: {found and found[0]}"


@named
def test_hadolint(path: Path) -> None:
    found = subprocess.run([tool("hadolint"), "--failure-threshold", "warning", path], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_servers_get_the_flags_of_serve_vlm() -> None:
    image = json.loads(dict(instructions(DOCKER / "vllm.Dockerfile"))["CMD"])
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["vllm"]["command"]
    words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in service]
    beside = [part for word in words for part in word.split("=", 1)]
    for profile, given in (("gpu", image), ("small", beside)):
        wanted = plan_for("", profile, vllm=sys.executable).command("0.0.0.0", 8000)[2:]
        assert given[0] == wanted[0]
        for flags in (given, wanted):
            flags.remove("--trust-request-mm-kwargs")  # the one flag without a value
        pairs = set(zip(given[1::2], given[2::2], strict=True))
        assert set(zip(wanted[1::2], wanted[2::2], strict=True)) <= pairs


def test_compose_publishes_nothing_beyond_this_machine() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert set(services) == {"vllm", "worker"}
    for name, service in services.items():
        assert (REPOSITORY / service["build"]["dockerfile"]).is_file()
        assert not service["image"].endswith("latest")
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert not service.get("privileged")
    assert "/health" in " ".join(services["vllm"]["healthcheck"]["test"])
    assert services["worker"]["depends_on"] == {"vllm": {"condition": "service_healthy"}}


def test_docker_reads_the_compose_file() -> None:
    command = [tool("docker"), "compose", "-f", DOCKER / "compose.yaml", "config", "--quiet"]
    if subprocess.run([command[0], "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker has no compose")
    found = subprocess.run(
        command, env={"PATH": "/usr/bin", "CLIPS": "/c", "RUNS": "/r", "MODELS": "/m"}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr


def kuberay(name: str) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((DOCKER / "kuberay" / name).read_text())
    assert made["apiVersion"] == "ray.io/v1"
    return made


def cluster_of(name: str) -> dict[str, Any]:
    made = kuberay(name)
    spec: dict[str, Any] = made["spec"] if made["kind"] == "RayCluster" else made["spec"]["rayClusterSpec"]
    return spec


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_kuberay_groups_offer_what_their_pods_have(name: str) -> None:
    spec = cluster_of(name)
    assert spec["rayVersion"] == RAY_VERSION
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == {"cpu", "gpu"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in (spec["headGroupSpec"], *groups.values()):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert not container["image"].endswith(":latest")
        assert ":" in container["image"]
        assert all("secretRef" in source for source in container["envFrom"])
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "KubeRay wants texts"
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
    for group in groups.values():
        (container,) = group["template"]["spec"]["containers"]
        limits, params = container["resources"]["limits"], group["rayStartParams"]
        assert params["num-cpus"] == limits["cpu"]
        assert params["num-gpus"] == limits.get("nvidia.com/gpu", "0")
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert "ray stop" in container["lifecycle"]["preStop"]["exec"]["command"][-1]


def test_the_job_runs_on_the_cluster_of_the_example() -> None:
    assert cluster_of("rayjob.yaml") == cluster_of("raycluster.yaml"), "one is a copy of the other"
    job = kuberay("rayjob.yaml")
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["ffpdata", "run"]
    assert words[words.index("--runner") + 1] == "ray"
    assert words[words.index("--run") + 1].startswith("s3://")
    assert job["spec"]["shutdownAfterJobFinishes"] is True


def test_the_sbatch_script_is_a_script() -> None:
    subprocess.run(["bash", "-n", SBATCH], check=True)
    text = SBATCH.read_text()
    assert re.search(r"^#SBATCH --signal=B:TERM@\d+$", text, re.MULTILINE)
    assert "trap drain TERM" in text


FAKES = {
    "scontrol": "printf 'a\\nb\\n'",
    "srun": 'while [[ $1 == -* ]]; do [[ $1 == -w ]] && shift; shift; done; exec "$@"',
    "hostname": "echo 10.0.0.1 10.0.0.2",
    "ray": 'echo "$@" >>"$FAKE/ray"; exec sleep 20',
    "python": 'until (($(wc -l <"$FAKE/ray") == 2)); do sleep 0.05; done; echo "$RAY_ADDRESS ${@:3}" >>"$FAKE/python"',
    "ffpdata": """echo "$@" >"$FAKE/asked"; trap 'sleep 0.3; echo done >"$FAKE/drained"; exit 130' TERM
[[ $2 == wait ]] || exit 3; touch "$FAKE/begun"; for _ in {1..100}; do sleep 0.1; done""",
}
"""Stand-ins for Slurm, Ray and the run."""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment in which the script finds the stand-ins alone."""
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
    (tmp_path / "ray").touch()
    slurm = {"SLURM_JOB_ID": "4242", "SLURM_JOB_NODELIST": "x", "SLURM_CPUS_PER_TASK": "8", "SLURM_GPUS_ON_NODE": "4"}
    return slurm | {"FFPDATA_VENV": str(folder.parent), "FAKE": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin"}


def test_the_sbatch_script_starts_all_nodes_and_passes_the_exit_code_on(slurm: dict[str, str], tmp_path: Path) -> None:
    found = subprocess.run(
        ["bash", SBATCH, "local", "--strict"], env=slurm, cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 3, found.stderr
    assert (tmp_path / "asked").read_text().split() == ["run", "local", "--strict", "--runner", "ray"]
    assert (tmp_path / "python").read_text().split() == ["10.0.0.1:24242", "2", "300"]
    head, worker = sorted((tmp_path / "ray").read_text().splitlines(), key=lambda line: "--head" not in line)
    assert "--num-gpus=4" in head
    assert "--port=24242" in head
    assert "--address=10.0.0.1:24242" in worker
    assert not list(tmp_path.glob(".ray-token*")), "the secret goes with the job"


def test_the_sbatch_script_drains_on_sigterm(slurm: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen(["bash", SBATCH, "wait"], env=slurm, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    process.terminate()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (tmp_path / "drained").exists()
    assert "submit the same command to go on" in out


def test_shellcheck() -> None:
    found = subprocess.run([tool("shellcheck"), "--severity", "warning", SBATCH], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_dashboard_draws_what_there_is() -> None:
    source = (REPOSITORY / "ffpdata" / "runners" / "prometheus.py").read_text()
    defined = dict(re.findall(r'(Counter|Gauge|Histogram)\(\s*"(\w+)"', source)[i][::-1] for i in range(5))
    exported: set[str] = set()
    for name, kind in defined.items():  # as Ray's exporter names them
        endings = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_count", "_sum"]}[kind]
        exported |= {f"ray_{name}{ending}" for ending in endings}
    board = json.loads((DOCKER / "grafana" / "ffpdata.json").read_text())
    shown = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    asked = " ".join(
        variable["query"]["query"] for variable in board["templating"]["list"] if variable["type"] == "query"
    )
    used = set(re.findall(r"\bray_\w+", shown + " " + asked))
    assert used <= exported, used - exported
    assert {name.removeprefix("ray_").removesuffix("_total") for name in used} >= {"ffpdata_items", "ffpdata_waiting"}
    assert all(any(f"ray_{name}" in one for one in used) for name in defined), "every metric is drawn"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert all(expr.count("(") == expr.count(")") and expr.count("{") == expr.count("}") for expr in [shown])
