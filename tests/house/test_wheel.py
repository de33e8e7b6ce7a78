"""`make wheel` builds what is committed, of a tag that tells the truth, and that runs on locks/run.txt alone."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.house.test_locks import PROJECT, ROOT, RUN
from tests.world.process import PATIENCE_SECONDS

VERSION = PROJECT["version"]
ROOMS = ("relay", "spool", "tools")
#: Imports every module of the wheel: nothing may be missing that only tests have. The driver of the database is an
#: extra, and only what talks to the database may want it.
IMPORT_ALL = f"""
import importlib, pkgutil
for room in {ROOMS}:
    package = importlib.import_module(room)
    for module in pkgutil.walk_packages(package.__path__, room + "."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if error.name != "psycopg" or not module.name.startswith("spool.replicated."):
                    raise
    print(package.__file__)
"""


def make_wheel(repository: Path, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """With the virtual environment of this test, which it leaves as it is."""
    ready = f"{sys.prefix}/.run"
    command = ["make", "wheel", f"VENV={sys.prefix}", f"--old-file={ready}", f"DIST={directory}", *options]
    return subprocess.run(
        command, cwd=repository, capture_output=True, text=True, timeout=PATIENCE_SECONDS * 4
    )


def git(directory: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", directory, *words], check=True, capture_output=True, text=True).stdout


def the_wheel(directory: Path) -> Path:
    (wheel,) = directory.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the commit that is checked out."""
    directory = tmp_path_factory.mktemp("dist")
    done = make_wheel(ROOT, directory, "TAG=HEAD")
    assert done.returncode == 0, done.stderr
    return the_wheel(directory)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin of a virtual environment that has the wheel and what locks/run.txt names, no pip, and nothing else."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    for name in RUN:
        # What this environment has of the lock is what the other gets, without asking the network again.
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            (packages / top).symlink_to(distribution(name).locate_file(top))  # type: ignore[arg-type]
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True, timeout=PATIENCE_SECONDS)
    subprocess.run([*pip, "check"], check=True, timeout=PATIENCE_SECONDS)
    return environment / "bin"


def test_it_has_all_that_runs_and_nothing_of_the_tests(wheel: Path) -> None:
    committed = git(ROOT, "ls-tree", "-r", "--name-only", "HEAD", *ROOMS).split()
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    # With what the pages are made of.
    assert inside == {name for name in committed if name.endswith((".py", ".html", ".css", ".js", ".svg"))}
    assert "relay/service.py" in inside


def test_it_runs_where_there_is_no_repository(installed: Path, tmp_path: Path) -> None:
    def typed(*words: str) -> str:
        command = [installed / words[0], *words[1:]]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env={}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"atmos-relay {VERSION}\n" in typed("atmos-relay", "version")
    typed("atmos-relay", "init", "data", "--operator-domain", "relay.example")
    assert "operator domain relay.example" in typed("atmos-relay", "doctor", "data")
    for file in typed("python", "-c", IMPORT_ALL).split():
        assert Path(file).is_relative_to(installed.parent)


def test_a_wheel_is_built_of_the_tag_that_names_its_version(wheel: Path, tmp_path: Path) -> None:
    clone, dist = tmp_path / "clone", tmp_path / "dist"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    for tag in git(clone, "tag").split():
        git(clone, "tag", "--delete", tag)

    refused = make_wheel(clone, dist)
    assert refused.returncode != 0
    assert f"There is no v{VERSION} to build" in refused.stdout

    git(clone, "tag", "v99.0.0")
    refused = make_wheel(clone, dist, "TAG=v99.0.0")
    assert refused.returncode != 0
    assert "The tag v99.0.0 is not named after the version" in refused.stdout
    assert not dist.exists()

    git(clone, "tag", f"v{VERSION}")
    # What lies about and is not committed goes into no wheel.
    (clone / "relay" / "forgotten.py").write_text("")
    built = make_wheel(clone, dist)
    assert built.returncode == 0, built.stderr
    # The same commit gives the same bytes, whenever and wherever it is built.
    assert the_wheel(dist).read_bytes() == wheel.read_bytes()


def test_the_changelog_knows_this_version() -> None:
    released = re.findall(r"^## \[(.+?)\]", (ROOT / "docs" / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == "Unreleased"
    if VERSION.endswith(".dev0"):
        assert VERSION.removesuffix(".dev0") not in released
    else:
        assert released[1] == VERSION
