"""One module per screen: it composes widgets and forwards messages."""
