"""Draws the output of a terminal as an animated SVG: text and CSS, no script, so that it moves as a picture too.

Each state of a line is one <text>, shown from when it is written until it is overwritten; the whole moves up as the
terminal scrolls. Viewers without CSS animations, and those told to show less motion, show the end.
"""

from html import escape

from terminal import Terminal

FRAME = 0.1       # seconds: outputs closer together are drawn as one
LAST_FRAME = 6.0  # seconds that the end stays
LINE, CELL, MARGIN = 18, 8.43, 14  # pixels; text is stretched to whole cells
BACKGROUND, FOREGROUND = "#14171c", "#d5d9e0"
COLOURS = ["#5c6370", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d5d9e0"] * 2


def _spans(cells: list) -> str:
    """A line's cells as text and <tspan>s, one for each run of a style."""
    out, at = "", 0
    while at < len(cells):
        style, end = cells[at][1], at
        while end < len(cells) and cells[end][1] == style:
            end += 1
        text = escape("".join(character for character, _ in cells[at:end]), quote=False)
        colour, bold = style
        attributes = (f' fill="{COLOURS[colour]}"' if colour is not None else "") + (' font-weight="bold"' if bold else "")
        out += f"<tspan{attributes}>{text}</tspan>" if attributes else text
        at = end
    return out


def _trimmed(cells: list) -> list:
    end = len(cells)
    while end and cells[end - 1][0] == " ":
        end -= 1
    return cells[:end]


def _frames(events: list[tuple[float, str]]) -> list[tuple[float, str]]:
    frames = []
    for at, text in events:
        if frames and at - frames[-1][0] < FRAME:
            frames[-1] = (frames[-1][0], frames[-1][1] + text)
        else:
            frames.append((at, text))
    return frames


def _states(events: list[tuple[float, str]], width: int, height: int):
    """[(row, cells, from, until)], until is None at the end; [(time, top row)]."""
    terminal, shown, states, tops = Terminal(width, height), {}, [], [(0.0, 0)]
    for at, text in _frames(events):
        terminal.feed(text)
        now = {row: _trimmed(list(cells)) for row, cells in enumerate(terminal.rows)}
        for row in sorted(shown.keys() | now.keys()):
            cells = now.get(row, [])
            old, since = shown.get(row, ([], 0.0))
            if cells == old:
                continue
            if old:
                states.append((row, old, since, at))
            shown[row] = (cells, at)
        if terminal.top != tops[-1][1]:
            tops.append((at, terminal.top))
    states.extend((row, cells, since, None) for row, (cells, since) in shown.items() if cells)
    return states, tops


def render(events: list[tuple[float, str]], width: int, height: int, title: str) -> str:
    states, tops = _states(events, width, height)
    length = events[-1][0] + LAST_FRAME
    percent = lambda at: f"{100 * at / length:.3f}".rstrip("0").rstrip(".") + "%"  # noqa: E731 (short)
    # A line is shown until it is overwritten, or has scrolled away.
    gone = lambda row: next((at for at, top in tops if top > row), None)  # noqa: E731
    keyframes, lines = {}, []
    for row, cells, since, until in sorted(states, key=lambda state: state[0]):
        at_end = until is None and gone(row) is None
        until = min((at for at in (until, gone(row)) if at is not None), default=None)
        if until is not None and until <= since:
            continue
        name = keyframes.setdefault((since, until), f"k{len(keyframes)}")
        style = "" if at_end else ' class="h"'
        lines.append(f'<text{style} y="{(row + 1) * LINE}" textLength="{len(cells) * CELL:.1f}" '
                     f'style="animation-name:{name}">{_spans(cells)}</text>')
    css = [f"@keyframes {name}{{0%{{visibility:hidden}}{percent(since)}{{visibility:visible}}"
           + (f"{percent(until)}{{visibility:hidden}}" if until is not None else "")
           + f"100%{{visibility:{'hidden' if until is not None else 'visible'}}}}}"
           for (since, until), name in keyframes.items()]
    css.append("@keyframes up{" + "".join(f"{percent(at)}{{transform:translateY({-top * LINE}px)}}" for at, top in tops)
               + f"100%{{transform:translateY({-tops[-1][1] * LINE}px)}}}}")
    inner_width, inner_height = width * CELL, height * LINE + 6
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {inner_width + 2 * MARGIN:.0f} {inner_height + 2 * MARGIN}" role="img" xml:space="preserve">
<title>{escape(title)}</title>
<style>
text{{font:14px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:{FOREGROUND};white-space:pre}}
.h{{visibility:hidden}}
#up{{transform:translateY({-tops[-1][1] * LINE}px)}}
@media not (prefers-reduced-motion:reduce){{text,#up{{animation:{length:.2f}s step-end infinite}}#up{{animation-name:up}}}}
{chr(10).join(css)}
</style>
<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>
<svg x="{MARGIN}" y="{MARGIN}" width="{inner_width:.0f}" height="{inner_height}"><g id="up">
{chr(10).join(lines)}
</g></svg>
</svg>
"""
