"""docs/Containerfile is built by buildah, on a Debian that mmdebstrap has just made, and what it makes works.

The image that it names comes from a registry, which no test asks; `debian:bookworm-slim` is made of the same packages.
So this needs Debian's mirror and the package index, root, and a minute or two. Where buildah cannot run, the tests are
skipped and say so; with REQUIRE_RECEIVERS=1, as in CI, they fail where it is missing. SKIP_CONTAINER=1 leaves them out.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.config import CONFIG_FILE
from tests.house.test_locks import PROJECT, ROOT, RUN
from tests.world.daemon import require_daemon
from tests.world.pages import DOCS
from tests.world.process import PATIENCE_SECONDS, wait_until

FILE = DOCS / "Containerfile"
SUITE = "bookworm"
#: Everything is fetched and unpacked, on a machine that does other things as well.
BUILD_SECONDS_MAX = 900
pytestmark = pytest.mark.timeout(BUILD_SECONDS_MAX)
DATA = "/var/lib/atmos-relay"
#: What it prints is a JSON list of everything that is installed beside Python itself.
INSTALLED = """
import importlib.metadata, json, re
names = (found.name for found in importlib.metadata.distributions())
print(json.dumps(sorted(re.sub("[-_.]+", "-", name).lower() for name in names)))
"""


class Builder:
    """buildah, with all that it keeps in one directory."""

    def __init__(self, directory: Path) -> None:
        self._kept = ["--root", str(directory / "root"), "--runroot", str(directory / "run")]

    def command(self, *words: str | Path) -> list[str]:
        return ["buildah", *self._kept, *map(str, words)]

    def __call__(self, *words: str | Path) -> str:
        """What it prints. Raises AssertionError with what it says where it fails."""
        done = subprocess.run(
            self.command(*words), cwd=ROOT, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX
        )
        assert done.returncode == 0, f"buildah {words[0]}: {done.stderr[-4000:]}"
        return done.stdout.strip()


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    if os.environ.get("SKIP_CONTAINER") == "1":
        pytest.skip("SKIP_CONTAINER=1")
    for package in ("buildah", "mmdebstrap"):
        require_daemon(package)
    directory = tmp_path_factory.mktemp("buildah")
    builder = Builder(directory)
    (directory / "nothing").mkdir()
    (directory / "Containerfile").write_text("FROM scratch\nCOPY nothing /\n")
    try:
        builder("bud", "--isolation", "chroot", directory)
    except AssertionError as error:
        pytest.skip(f"buildah is installed and cannot run here: {error}")
    yield builder
    builder("rm", "--all")
    builder("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def base(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image of Debian's smallest system, from the mirror that apt uses here."""
    known = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {SUITE}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    if not known:
        pytest.skip(f"apt knows no mirror of Debian {SUITE} here: apt-get update")
    system = tmp_path_factory.mktemp("debian") / "system.tar"
    done = subprocess.run(
        ["mmdebstrap", "--variant=apt", "--dpkgopt=force-unsafe-io", SUITE, system, known[0]],
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    container = builder("from", "scratch")
    builder("add", "--quiet", container, system, "/")
    builder("commit", "--quiet", "--rm", "--disable-compression", container, "localhost/debian")
    system.unlink()
    return "localhost/debian"


@pytest.fixture(scope="module")
def image(builder: Builder, base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of what the page's command makes."""
    # Health checks are Docker's; the format of the OCI has none.
    options = ["--isolation", "chroot", "--format", "docker", "--build-arg", f"BASE={base}"]
    builder("bud", *options, *as_pip_is_set_here(tmp_path_factory), "-f", FILE, "-t", "atmos-relay", ROOT)
    return "localhost/atmos-relay"


def as_pip_is_set_here(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Volumes that give the build's pip this machine's index and authorities, where it has its own."""
    listed = subprocess.run(["pip", "config", "list"], capture_output=True, text=True).stdout
    settings = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = value.strip("'")
    directory = tmp_path_factory.mktemp("pip")
    lines, volumes = ["[global]"], []
    if "index-url" in settings:
        lines.append(f"index-url = {settings['index-url']}")
    if "cert" in settings:
        lines.append("cert = /run/authorities.pem")
        volumes += ["--volume", f"{settings['cert']}:/run/authorities.pem:ro"]
    (directory / "pip.conf").write_text("\n".join(lines) + "\n")
    return [*volumes, "--volume", f"{directory / 'pip.conf'}:/etc/pip.conf:ro"]


@pytest.fixture
def container(builder: Builder, image: str) -> Iterator[str]:
    name = builder("from", "--pull-never", image)
    yield name
    builder("rm", name)


def settings_of(builder: Builder, image: str) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(builder("inspect", "--type", "image", image))["Docker"]["config"]
    return settings


def test_it_is_not_root_and_keeps_its_data_in_a_volume(builder: Builder, image: str) -> None:
    settings = settings_of(builder, image)
    assert settings["User"] == "atmos-relay"
    assert settings["Volumes"] == {DATA: {}}
    assert settings["Entrypoint"] == ["atmos-relay"]
    assert settings["Cmd"] == ["serve", DATA]
    assert settings["Healthcheck"]["Test"][0] == "CMD"


def test_it_has_what_the_running_lock_names_and_nothing_else(builder: Builder, container: str) -> None:
    run = ["run", "--isolation", "chroot", container, "--"]
    assert json.loads(builder(*run, "python", "-c", INSTALLED)) == sorted([*RUN, PROJECT["name"]])
    assert f"atmos-relay {PROJECT['version']}\n" in builder(*run, "atmos-relay", "version")


def test_it_serves_and_says_whether_it_is_well(
    builder: Builder, image: str, container: str, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o700)
    os.chown(volume, 10001, 10001)
    run = ["run", "--isolation", "chroot", "--volume", f"{volume}:{DATA}", container, "--"]
    builder(*run, "atmos-relay", "init", DATA, "--operator-domain", "relay.example")
    config = volume / CONFIG_FILE
    assert config.stat().st_uid == 10001
    config.write_text(
        config.read_text().replace("127.0.0.1:8025", "127.0.0.1:0").replace("127.0.0.1:8026", "")
    )
    health = settings_of(builder, image)["Healthcheck"]["Test"][1:]

    # Not buildah, which would kill it, but the relay itself is told to stop.
    serve = f"echo $$ >{DATA}/pid; exec atmos-relay serve {DATA}"
    with subprocess.Popen(
        builder.command(*run, "sh", "-c", serve), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            address = volume / "http.address"
            wait_until(lambda: address.exists() or process.poll() is not None, lambda: "it does not listen")
            assert process.poll() is None
            builder(*run, *health)
            os.kill(int((volume / "pid").read_text()), signal.SIGTERM)
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.terminate()  # where it has not ended
    assert process.returncode == 0
    assert "service.stopped" in said
    with pytest.raises(AssertionError, match="buildah run"):
        builder(*run, *health)
