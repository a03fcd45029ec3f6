"""What the client said of itself, and what its status bar shows."""

from __future__ import annotations

from threading import Event

from lsprotocol import types as lsp
from pygls.capabilities import get_capability

from gradsight_server import messages


class Editor:
    """Capabilities as plain answers. Before `initialize` it can do nothing."""

    def __init__(self) -> None:
        self.can_be_asked = False  # for its settings
        self.watches_files = False  # and tells us, if we ask
        self.registers_settings = False
        self.versions_edits = False
        self.resolves_edits = False
        self.makes_edits = False  # that the server asks for
        self.refreshes_hints = False
        self.refreshes_lenses = False
        self.creates_progress = False
        self.shows_markdown = True
        self.decorations = False
        self.wants_status = False
        self.configured = Event()  # its settings are known, or it has none
        self.is_served = False
        self.probe = "none"
        self.device: str | None = None

    def learn(self, can: lsp.ClientCapabilities, options: messages.InitializationOptions | None) -> None:
        """Take in `initialize`; `options` is None where the client gave none."""

        def ask(path: str) -> object:
            return get_capability(can, path)

        self.can_be_asked = bool(ask("workspace.configuration"))
        self.watches_files = bool(ask("workspace.did_change_watched_files.dynamic_registration"))
        self.registers_settings = bool(ask("workspace.did_change_configuration.dynamic_registration"))
        self.versions_edits = bool(ask("workspace.workspace_edit.document_changes"))
        self.makes_edits = bool(ask("workspace.apply_edit"))
        resolves = get_capability(can, "text_document.code_action.resolve_support.properties", ())
        self.resolves_edits = "edit" in (resolves or ()) and bool(
            ask("text_document.code_action.data_support")
        )
        self.refreshes_hints = bool(ask("workspace.inlay_hint.refresh_support"))
        self.refreshes_lenses = bool(ask("workspace.code_lens.refresh_support"))
        self.creates_progress = bool(ask("window.work_done_progress"))
        formats = get_capability(can, "text_document.hover.content_format", None)
        self.shows_markdown = not formats or lsp.MarkupKind.Markdown in formats
        self.wants_status = options is not None
        self.decorations = options is not None and options.decorations

    def status(self) -> messages.Status:
        """For the status bar."""
        if not self.is_served:
            return messages.Status("starting", self.probe, self.device, "Gradsight is starting")
        message = {
            "none": "Gradsight is ready",
            "starting": "Gradsight is ready; a probe is starting",
            "running": "Gradsight is ready; a probe is running",
            "warming": "Gradsight is ready; the next probe is being prepared",
            "ready": "Gradsight is ready, and so is the next probe",
        }[self.probe]
        return messages.Status("ready", self.probe, self.device, message)
