"""Colours: one accent, muted borders; everything else is the terminal's own calm."""

from textual.theme import Theme

DARK = Theme(
    name="workbench-dark",
    dark=True,
    primary="#7aa2f7",
    secondary="#9aa5ce",
    accent="#7aa2f7",
    foreground="#c8ccd8",
    background="#12141a",
    surface="#171a21",
    panel="#1e222b",
    success="#8fbf7f",
    warning="#e0af68",
    error="#f7768e",
    variables={
        "border": "#353b49",
        "border-blurred": "#2a2f3a",
        "footer-background": "#171a21",
        "footer-key-foreground": "#7aa2f7",
        "block-cursor-background": "#2c3a5c",
        "block-cursor-foreground": "#e6e9f2",
        "block-cursor-text-style": "none",
        "input-selection-background": "#2c3a5c",
    },
)

# Series of a chart, in order; the first is the accent.
SERIES_COLORS = ("#7aa2f7", "#e0af68", "#8fbf7f", "#bb9af7", "#7dcfff", "#f7768e")
