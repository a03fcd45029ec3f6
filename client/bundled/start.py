"""Starts the language server from the extension's own files, on whatever Python 3.10 or newer runs this.

    python3 -I -S start.py --storage FOLDER [--check | arguments of the server]

Invariants: nothing is installed into the Python that runs this, and nothing of its site-packages is used;
what must be unpacked (libcst is no pure Python) goes below FOLDER, whole or not at all. `--check` only says,
as one line of JSON, which Python this is and whether fixes can be made on it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARIES = os.path.join(HERE, "libs")
WHEELS = os.path.join(HERE, "wheels")


def main(arguments: list[str]) -> None:
    """`arguments` as in the head of this module."""
    storage = arguments[arguments.index("--storage") + 1]
    rest = [each for each in arguments if each not in ("--storage", storage)]
    compiled, missing = provide_compiled(storage)
    if "--check" in rest:
        import json

        answer = {
            "version": sys.version_info[:2],
            "executable": sys.executable,
            "prefix": sys.prefix,
            "fixes": missing,
        }
        print(json.dumps(answer))
        return
    if os.path.isdir(LIBRARIES):
        sys.path[:0] = [LIBRARIES, compiled]
        if not os.access(LIBRARIES, os.W_OK):
            sys.pycache_prefix = os.path.join(storage, "pycache")
    else:  # a checkout of the project, where the environment brings what is missing
        import site

        site.main()
        root = os.path.dirname(os.path.dirname(HERE))
        sys.path[:0] = [os.path.join(root, "analysis"), os.path.join(root, "server")]

    from gradsight_server.app import main as serve

    sys.argv = ["gradsight server", *rest]
    sys.exit(serve(rest))


def provide_compiled(storage: str) -> tuple[str, dict[str, str] | None]:
    """The folder that holds libcst for this Python; None, or why it is empty and what fills it."""
    wheels = sorted(os.listdir(WHEELS)) if os.path.isdir(WHEELS) else []
    fitting = [wheel for wheel in wheels if fits(wheel)]
    if fitting:
        try:
            return unpacked(fitting, storage), None
        except (OSError, ValueError) as error:
            reason = f"Fixes need libcst, which could not be unpacked below {storage} ({error})."
    else:
        version = ".".join(map(str, sys.version_info[:2]))
        reason = f"Fixes need libcst, which Gradsight does not bring for Python {version} on this machine."
    # The user's own: never touched but by the command that is named.
    own = os.path.join(storage, f"libcst-for-{python_tag()}")
    if not os.path.isdir(LIBRARIES) or os.path.isdir(os.path.join(own, "libcst")):
        return own, None
    # An empty folder is looked into again; one that is not there when the server starts never would be.
    with contextlib.suppress(OSError):
        os.makedirs(own, exist_ok=True)
    command = f'"{sys.executable}" -m pip install --target "{own}" libcst'
    reason = f"{reason} Findings work all the same. For fixes, run once:"
    return own, {"reason": reason, "command": command}


def unpacked(wheels: list[str], storage: str) -> str:
    """The folder below `storage` with the content of the wheels; whoever is first makes it."""
    import hashlib

    name = hashlib.sha256("\n".join(wheels).encode()).hexdigest()[:12]
    folder = os.path.join(storage, f"{python_tag()}-{name}")
    if os.path.isdir(folder):
        return folder

    import shutil
    import tempfile
    import zipfile

    os.makedirs(storage, exist_ok=True)
    partial = tempfile.mkdtemp(prefix="unpacking-", dir=storage)
    try:
        for wheel in wheels:
            with zipfile.ZipFile(os.path.join(WHEELS, wheel)) as archive:
                archive.extractall(partial)
        os.chmod(partial, 0o755)
        try:
            os.rename(partial, folder)
        except OSError:
            # Another window was first.
            if not os.path.isdir(folder):
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def python_tag() -> str:
    """This Python as wheels name it: `cp312`, and `cp314t` for one without the global lock."""
    free = "t" if "free-threading" in sys.version else ""
    kind = {"cpython": "cp", "pypy": "pp"}.get(sys.implementation.name, sys.implementation.name)
    return f"{kind}{sys.version_info[0]}{sys.version_info[1]}{free}"


def fits(wheel: str) -> bool:
    """Whether a wheel's name says that this Python can load it."""
    parts = wheel.removesuffix(".whl").split("-")
    return len(parts) >= 5 and parts[-2] == python_tag() and any(map(runs_here, parts[-1].split(".")))


def runs_here(platform_tag: str) -> bool:
    """Whether this machine is what a wheel's platform tag names."""
    if sys.platform == "win32":
        import sysconfig

        return platform_tag == re.sub(r"[-.]", "_", sysconfig.get_platform())
    machine = os.uname().machine
    found = re.fullmatch(
        r"(manylinux|musllinux|macosx)_(\d+)_(\d+)_(\w+)", _LEGACY.get(platform_tag, platform_tag)
    )
    if not found or sys.maxsize < 2**32:
        return False
    family, wanted, architecture = found[1], (int(found[2]), int(found[3])), found[4]
    if sys.platform == "darwin":
        import platform

        own = tuple(map(int, platform.mac_ver()[0].split(".")[:2]))
        return family == "macosx" and architecture in (machine, "universal2") and own >= wanted
    if not sys.platform.startswith("linux") or architecture != machine:
        return False
    glibc = glibc_version()
    return family == "musllinux" if glibc is None else family == "manylinux" and glibc >= wanted


# The older names of glibc's versions.
_LEGACY = {
    "manylinux2014_x86_64": "manylinux_2_17_x86_64",
    "manylinux2014_aarch64": "manylinux_2_17_aarch64",
}


def glibc_version() -> tuple[int, ...] | None:
    """The C library's version, or None where it is another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return tuple(map(int, version.split(".")[:2])) if name == "glibc" else None
    except (ValueError, OSError, AttributeError):
        return None


if __name__ == "__main__":
    main(sys.argv[1:])
