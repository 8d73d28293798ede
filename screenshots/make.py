"""Makes the screenshots of the README from the running application: `python screenshots/make.py [RUN]`.

Without a run it trains the demo first, in a home of its own. Each screen is drawn by the real application at 80×24 and
120×40, saved as SVG and converted to PNG.
"""

import asyncio
import html
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import cairosvg
from textual.pilot import Pilot

from workbench.engine.runs.directory import find_run
from workbench.tui.app import WorkbenchApp

HERE = Path(__file__).resolve().parent
SIZES = ((80, 24), (120, 40))
_DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
_LINE_HEIGHT = 24.4


def braille_as_circles(svg: str) -> str:
    """Braille characters drawn as circles: few monospaced fonts have them, and the converter looks in one only."""

    def redraw(match: re.Match[str]) -> str:
        attributes, content = match.group(1), html.unescape(match.group(2))
        if not any("\u2800" <= char <= "\u28ff" for char in content):
            return match.group()
        x, y, length = (float(re.search(rf' {name}="([\d.]+)"', attributes)[1])  # type: ignore[index]
                        for name in ("x", "y", "textLength"))
        css = re.search(r'class="([^"]+)"', attributes)[1]  # type: ignore[index]
        width = length / len(content)
        drawn = [f'<circle class="{css}" cx="{x + (i + 0.25 + 0.5 * dx) * width:.1f}" '
                 f'cy="{y - 18.5 + _LINE_HEIGHT * (0.125 + 0.25 * dy):.1f}" r="2.1"/>'
                 for i, char in enumerate(content) if "\u2800" <= char <= "\u28ff"
                 for bit, (dx, dy) in enumerate(_DOTS) if (ord(char) - 0x2800) >> bit & 1]
        rest = "".join(" " if "\u2800" <= char <= "\u28ff" else char for char in content)
        text = html.escape(rest).replace(" ", "&#160;")
        return "".join(drawn) + (f"<text{attributes}>{text}</text>" if rest.strip() else "")

    return re.sub(r"<text([^>]*)>([^<]*)</text>", redraw, svg)


def save(svg: str, name: str, width: int) -> None:
    """Write one picture as SVG and as PNG."""
    (HERE / f"{name}.svg").write_text(svg, encoding="utf-8")
    picture = braille_as_circles(svg).replace("Fira Code", "DejaVu Sans Mono")
    cairosvg.svg2png(bytestring=picture.encode(), write_to=str(HERE / f"{name}.png"), output_width=width * 12)


async def shoot(screen: str, size: tuple[int, int], run_id: str) -> None:
    """One screen at one size."""
    app = WorkbenchApp(start=screen, run=find_run(run_id), chat=run_id if screen == "chat" else None)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(3)
        if screen == "chat":
            await talk(app, pilot)
        save(app.export_screenshot(), f"{screen}-{size[0]}x{size[1]}", size[0])
        print(f"{screen} {size[0]}x{size[1]}", flush=True)


async def talk(app: WorkbenchApp, pilot: Pilot[None]) -> None:
    """Ask the tuned model and its base the same question, and wait for both answers."""
    session = app.chat_screen.session
    while session.phase != "ready":
        await pilot.pause(0.2)
    keys = ({" ": "space", "?": "question_mark"}.get(char, char) for char in "What does the learning rate do?")
    await pilot.press("ctrl+b", *keys, "enter")
    await pilot.pause(1)
    while session.active is not None:
        await pilot.pause(0.2)
    await pilot.pause(0.5)


def main() -> None:
    """Shoot every screen."""
    run_id = sys.argv[1] if len(sys.argv) > 1 else "last"
    if len(sys.argv) == 1:
        os.environ["WORKBENCH_HOME"] = tempfile.mkdtemp()
        subprocess.run([sys.executable, "-m", "workbench", "demo"], check=True, stdin=subprocess.DEVNULL)
    for screen in ("plan", "runs", "watch", "chat"):
        for size in SIZES:
            asyncio.run(shoot(screen, size, run_id))


if __name__ == "__main__":
    main()
