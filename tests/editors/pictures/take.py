"""Takes the pictures that the README shows, in the real workbench: `bash .ci/screenshots`.

Three of them, and a moving one of the whole job, into client/images. Nothing is arranged for them: what is
shown is what the extension, packed from this checkout, does with pictures/train.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from conftest import packed  # noqa: E402
from installed import NODE, ROOT, WORKBENCH, users_environment  # noqa: E402

IMAGES = ROOT / "client" / "images"
LARGEST = 300_000  # bytes


def main() -> None:
    """Takes them all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("workspace", "pictures"):
            (folder / part).mkdir()
        given = {
            "editors": str(WORKBENCH),
            "folder": str(folder / "editor"),
            "workspace": str(folder / "workspace"),
            "vsix": str(packed()),
            "program": str(HERE / "train.py"),
            "pictures": str(folder / "pictures"),
        }
        (folder / "given.json").write_text(json.dumps(given), encoding="utf-8")
        done = subprocess.run(
            [str(NODE), str(HERE / "take.mjs"), str(folder / "given.json")],
            env=users_environment(folder / "python"),
        )
        if done.returncode:
            for failed in (folder / "pictures").glob("failed.png"):
                failed.replace(ROOT / ".cache" / "failed.png")
            sys.exit("screenshots: failed; see .cache/failed.png")
        IMAGES.mkdir(exist_ok=True)
        for each in ("finding", "fixes", "probe"):
            taken = Image.open(folder / "pictures" / f"{each}.png").convert("RGB")
            in_few_colours([taken])[0].save(IMAGES / f"{each}.png", optimize=True)
        animate(folder / "pictures", IMAGES / "whole-job.gif")
    for file in sorted(IMAGES.iterdir()):
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size // 1000} kB")
        if file.stat().st_size > LARGEST:
            sys.exit(f"screenshots: {file.name} is larger than {LARGEST // 1000} kB")


def animate(pictures: Path, to: Path) -> None:
    """One moving picture of the frames, at the size of the window; a frame holds only what changed."""
    frames = json.loads((pictures / "frames.json").read_text(encoding="utf-8"))
    images = []
    for each in frames:
        image = Image.open(pictures / each["file"]).convert("RGB")
        images.append(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS))
    # One palette for all, or else what did not change would differ by a shade.
    first, *others = in_few_colours(images)
    first.save(
        to,
        save_all=True,
        append_images=others,
        duration=[each["milliseconds"] for each in frames],
        loop=0,
        optimize=True,
        disposal=1,
    )


def in_few_colours(images: list[Image.Image]) -> list[Image.Image]:
    """The same with one palette.

    In it each shade counts once, as the few letters of a colour are what one looks at; but what is everywhere
    has to be exact.
    """
    counts: Counter[tuple[int, int, int]] = Counter()
    for image in images:
        counts.update({colour: count for count, colour in image.getcolors(1 << 24) or ()})
    shades = {tuple(value >> 3 << 3 for value in colour): colour for colour in counts}
    weighed = [*shades.values(), *(colour for colour, _ in counts.most_common(24) for _ in range(200))]
    every = Image.new("RGB", (len(weighed), 1))
    every.putdata(weighed)
    palette = every.quantize(128, dither=Image.Dither.NONE)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]


if __name__ == "__main__":
    main()
