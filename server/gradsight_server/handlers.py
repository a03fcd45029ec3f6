"""Every request and notification: take a snapshot, ask, convert.

Each answer about an unknown document is an empty one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gradsight.finding import Applicability
from lsprotocol import types as lsp

from gradsight_server import actions, convert, hover, lenses, messages, uris
from gradsight_server.convert import Encoding
from gradsight_server.documents import Found, Part, Snapshot
from gradsight_server.messages import BadMessage
from gradsight_server.probed import UNTRUSTED, Progress
from gradsight_server.protocol import Outdated, Refused
from gradsight_server.settings import SECTION, looks_like_ours

if TYPE_CHECKING:
    from gradsight.engine import Engine
    from gradsight.finding import Finding
    from gradsight.text import Source

    from gradsight_server.app import Server
    from gradsight_server.proving import Wanted

logger = logging.getLogger(__name__)

KNOWN_WAIT = 2.0  # seconds that a hover waits for the analysing thread


def register(server: Server) -> None:
    """Put all handlers into the server."""
    for each in (_lifecycle, _settings, _actions, _reading, _probing):
        each(server)


def _lifecycle(server: Server) -> None:
    @server.feature(lsp.INITIALIZE)
    def initialize(params: lsp.InitializeParams) -> None:
        encoding = server.protocol.workspace.position_encoding
        server.documents.encoding = Encoding(str(getattr(encoding, "value", encoding)))
        options = _options(server, params.initialization_options)
        server.editor.learn(params.capabilities, options)
        server.probed.trusted = options is None or options.trusted
        server.given_settings = options.settings if options is not None else None

    @server.feature(lsp.INITIALIZED)
    async def initialized(params: lsp.InitializedParams) -> None:
        server.analyses.start()
        server.tell_status()
        await server.configure(server.given_settings)
        server.editor.configured.set()
        await _register_watchers(server)


def _options(server: Server, given: Any) -> messages.InitializationOptions | None:
    if given is None:
        return None
    try:
        return messages.from_json(messages.InitializationOptions, given)
    except BadMessage as error:
        server.warn(f"the client's initialization options cannot be meant: {error}")
        trusted = not isinstance(given, Mapping) or given.get("trusted", True) is True
        return messages.InitializationOptions(trusted=trusted)


async def _register_watchers(server: Server) -> None:
    wanted = []
    if server.editor.watches_files:
        watchers = [lsp.FileSystemWatcher(each) for each in ("**/pyproject.toml", "**/*.py")]
        options: Any = lsp.DidChangeWatchedFilesRegistrationOptions(watchers)
        wanted.append(lsp.Registration("gradsight-files", lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, options))
    if server.editor.registers_settings:
        options = lsp.DidChangeConfigurationRegistrationOptions(SECTION)
        wanted.append(lsp.Registration("gradsight-settings", lsp.WORKSPACE_DID_CHANGE_CONFIGURATION, options))
    if wanted:
        await server.client_register_capability_async(lsp.RegistrationParams(wanted))


def _settings(server: Server) -> None:
    @server.feature(lsp.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def did_change_configuration(params: lsp.DidChangeConfigurationParams) -> None:
        given = params.settings
        await server.configure(given.get(SECTION, given) if isinstance(given, dict) else given)

    @server.feature(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def did_change_watched_files(params: lsp.DidChangeWatchedFilesParams) -> None:
        files = [uris.to_file(change.uri) for change in params.changes]
        if any(map(looks_like_ours, files)):
            server.republish()
        server.files_changed(file for file in files if file.endswith(".py"))

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def did_save(params: lsp.DidSaveTextDocumentParams) -> None:
        if looks_like_ours(uris.to_file(params.text_document.uri)):
            server.republish()

    @server.feature(lsp.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    def did_change_folders(params: lsp.DidChangeWorkspaceFoldersParams) -> None:
        server.republish()


def _actions(server: Server) -> None:
    offers = server.offers
    kinds = [lsp.CodeActionKind.QuickFix, actions.FIX_ALL]

    @server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions(kinds, resolve_provider=True))
    async def code_action(params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        known = await server.found(params.text_document.uri)
        if known is None:
            return []
        _, snapshot, found = known
        uri, only = params.text_document.uri, params.context.only
        out = []
        if actions.is_wanted("quickfix", only):
            where = convert.from_range(snapshot, uri, params.range)
            bulk: dict[str, tuple[str, Applicability]] = {}
            for finding in found.shown:
                if finding.where.start <= where.end and where.start <= finding.where.end:
                    token = convert.to_token(snapshot, finding)
                    others = await _others(server, snapshot, finding)
                    made = await server.aside(offers.of, snapshot, finding, token, others)
                    said = convert.with_token(params.context.diagnostics, token)
                    out += [_quick_fix(server, snapshot, uri, token, each, said, others) for each in made]
                    best = None if finding.abroad else actions.best_of(made)  # a probe runs one text
                    if best is not None and server.probed.trusted and server.editor.makes_edits:
                        out.append(_fix_and_probe(snapshot, uri, token, best, said))
                    kind = actions.of_kind(finding, made)
                    if kind is not None and sum(each.code == finding.code for each in found.shown) > 1:
                        bulk.setdefault(finding.code, kind)
            for code, (title, applicability) in bulk.items():
                data = {"uri": uri, "offer": "kind", "code": code, "applicability": applicability.value}
                action = lsp.CodeAction(title, lsp.CodeActionKind.QuickFix, data=data)
                if not server.editor.resolves_edits:
                    action.edit = await _fix_all(server, snapshot, code, applicability)
                out.append(action)
        if found.shown and actions.is_wanted(actions.FIX_ALL, only):
            action = lsp.CodeAction(actions.FIX_ALL_TITLE, actions.FIX_ALL, data={"uri": uri, "offer": "all"})
            if not server.editor.resolves_edits:
                action.edit = await _fix_all(server, snapshot)
            out.append(action)
        return out

    @server.feature(lsp.CODE_ACTION_RESOLVE)
    async def resolve(params: lsp.CodeAction) -> lsp.CodeAction:
        data = params.data
        if not isinstance(data, dict) or not isinstance(data.get("uri"), str):
            raise Refused("this action is none of Gradsight's")
        known = await server.found(data["uri"])
        if known is None:
            raise Outdated("the document was closed")
        _, snapshot, found = known
        if data.get("offer") == "all":
            params.edit = await _fix_all(server, snapshot)
            return params
        if data.get("offer") == "probe":
            return params  # its command does all
        if data.get("offer") == "kind":
            safe = data.get("applicability") == Applicability.SAFE.value
            applicability = Applicability.SAFE if safe else Applicability.UNSAFE
            params.edit = await _fix_all(server, snapshot, str(data.get("code")), applicability)
            return params
        finding = _by_token(snapshot, found, data.get("token"))
        if finding is None:
            raise Outdated("the finding is gone, or stands elsewhere now")
        others = await _others(server, snapshot, finding)
        for each in await server.aside(offers.of, snapshot, finding, data["token"], others):
            if each.name == data.get("offer"):
                versioned = server.editor.versions_edits
                params.edit = convert.to_workspace_edit(snapshot, each.edits, versioned, others)
                return params
        raise Outdated("there is no such fix any more")


def _quick_fix(
    server: Server,
    snapshot: Snapshot,
    uri: str,
    token: str,
    offer: actions.Offer,
    said: list[lsp.Diagnostic],
    others: actions.Others,
) -> lsp.CodeAction:
    action = lsp.CodeAction(
        offer.title,
        lsp.CodeActionKind.QuickFix,
        diagnostics=said or None,
        is_preferred=True if offer.preferred else None,
        data={"uri": uri, "token": token, "offer": offer.name},
    )
    if not server.editor.resolves_edits:
        action.edit = convert.to_workspace_edit(snapshot, offer.edits, server.editor.versions_edits, others)
    return action


async def _others(server: Server, snapshot: Snapshot, finding: Finding) -> actions.Others:
    """The files besides its own that a finding stands in, as they are now: open documents over disk. None
    where one of them cannot be changed, or the editor makes no edits for a version."""
    if not finding.abroad or not server.editor.versions_edits:
        return actions.NONE
    out: dict[str, Snapshot] = {}
    for file in finding.files:
        if file == snapshot.source.file:
            continue
        uri = uris.from_file(file)
        unit = server.documents.get(uri)
        if unit is not None:
            out[file] = unit.snapshot()
            continue
        reading = server.analyses.ask(partial(_read, server, file))
        try:
            source = await asyncio.wait_for(asyncio.wrap_future(reading), KNOWN_WAIT)
        except asyncio.TimeoutError:
            return actions.NONE
        if source is None:
            return actions.NONE
        out[file] = Snapshot(uri, None, source, snapshot.encoding, (Part(uri, None),))
    return out


def _fix_and_probe(
    snapshot: Snapshot, uri: str, token: str, offer: actions.Offer, said: list[lsp.Diagnostic]
) -> lsp.CodeAction:
    title = f"Fix and probe: {offer.title}"
    asked = messages.FixAndProbe(uri, token, offer.name, snapshot.version)
    return lsp.CodeAction(
        title,
        lsp.CodeActionKind.QuickFix,
        diagnostics=said or None,
        command=lsp.Command(title, messages.FIX_AND_PROBE, arguments=[messages.to_json(asked)]),
        data={"uri": uri, "token": token, "offer": "probe"},
    )


async def _fix_all(
    server: Server,
    snapshot: Snapshot,
    code: str | None = None,
    applicability: Applicability = Applicability.SAFE,
) -> lsp.WorkspaceEdit:
    settings = await server.aside(server.configurations.of, snapshot.uri)
    document = snapshot.notebook or snapshot.source
    others = await _around(server, snapshot)
    asked = (actions.fix_all, document, settings, code, applicability, others)
    edits = await server.aside(*asked) if settings is not None else ()
    return convert.to_workspace_edit(snapshot, edits, server.editor.versions_edits)


async def _around(server: Server, snapshot: Snapshot) -> actions.Others:
    """The files that a document is read together with, as the analysis has them."""

    def read(engine: Engine) -> dict[str, Snapshot]:
        found = {file: server.surroundings.read(file) for file in engine.linker.asked(snapshot.source.file)}
        return {
            file: Snapshot(uris.from_file(file), None, source, snapshot.encoding, ())
            for file, source in found.items()
            if source is not None
        }

    try:
        return await asyncio.wait_for(asyncio.wrap_future(server.analyses.ask(read)), KNOWN_WAIT)
    except asyncio.TimeoutError:
        return actions.NONE


def _read(server: Server, file: str, engine: Engine) -> Source | None:
    """A file around the documents; on the analysing thread."""
    return server.surroundings.read(file)


def _by_token(snapshot: Snapshot, found: Found, token: object) -> Finding | None:
    return next((each for each in found.shown if convert.to_token(snapshot, each) == token), None)


def _reading(server: Server) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    async def hovered(params: lsp.HoverParams) -> lsp.Hover | None:
        known = await server.found(params.text_document.uri) if server.settings.hover else None
        if known is None:
            return None
        _, snapshot, found = known
        if convert.is_hidden(snapshot, params.text_document.uri, params.position):
            return None
        offset = convert.from_position(snapshot, params.text_document.uri, params.position)
        at = hover.finding_at(found.shown, offset)
        if at:
            # VS Code shows message and path itself; twice, they would push its link to fixes out of sight.
            if server.editor.decorations:
                said = [advice for each in at if (advice := hover.advise(each))]
            else:
                said = [hover.explain(snapshot, each, server.pages.uri(each.code)) for each in at]
            if not said:
                return None
            return convert.to_hover(snapshot, at[0].where, said, server.editor.shows_markdown)
        name = await _ask(server, snapshot, lambda engine: engine.known(snapshot.source, offset))
        if name is None:
            return None
        return convert.to_hover(
            snapshot, name.where, [hover.tell(snapshot, name)], server.editor.shows_markdown
        )

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)
    async def highlight(params: lsp.DocumentHighlightParams) -> list[lsp.DocumentHighlight] | None:
        known = await server.found(params.text_document.uri)
        if known is None:
            return None
        _, snapshot, _ = known
        offset = convert.from_position(snapshot, params.text_document.uri, params.position)
        spans = await _ask(server, snapshot, lambda engine: engine.feeds(snapshot.source, offset))
        return convert.to_highlights(snapshot, params.text_document.uri, spans) if spans else None

    @server.feature(lsp.TEXT_DOCUMENT_CODE_LENS)
    async def lens(params: lsp.CodeLensParams) -> list[lsp.CodeLens]:
        unit = server.documents.get(params.text_document.uri)
        if unit is None or not server.settings.lenses:
            return []
        return await server.aside(lenses.to_lenses, unit.snapshot(), params.text_document.uri)


async def _ask(server: Server, snapshot: Snapshot, question: Any) -> Any:
    """What the engine says of a snapshot; None if it has more urgent things to do, or the text is another."""

    def ask(engine: Any) -> Any:
        unit = server.documents.get(snapshot.uri)
        return question(engine) if unit is not None and unit.edition == snapshot.edition else None

    try:
        return await asyncio.wait_for(asyncio.wrap_future(server.analyses.ask(ask)), KNOWN_WAIT)
    except asyncio.TimeoutError:
        return None


def _probing(server: Server) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_INLAY_HINT)
    def hints(params: lsp.InlayHintParams) -> list[lsp.InlayHint]:
        unit = server.documents.get(params.text_document.uri)
        if unit is None or server.editor.decorations:
            return []
        view = server.probed.view(unit, params.text_document.uri)
        return lenses.to_hints(view, params.range.start.line, params.range.end.line)

    @server.command(messages.RUN_PROBE)
    async def run_probe(params: lsp.ExecuteCommandParams) -> dict[str, Any]:
        wanted = _argument(messages.RunProbe, params)
        unit = server.documents.get(wanted.uri)
        if unit is None:
            raise Refused("this document is not open in the editor, so there is nothing to probe")
        folders = [uris.to_file(each) for each in server.protocol.workspace.folders]
        progress = Progress(server, params.work_done_token, server.editor.creates_progress)
        view = await server.probed.run(unit, wanted, server.settings, folders, progress)
        if server.documents.get(wanted.uri) is not unit:  # closed meanwhile
            server.probed.clear(unit)
        return messages.to_json(view)

    @server.command(messages.FIX_AND_PROBE)
    async def fix_and_probe(params: lsp.ExecuteCommandParams) -> dict[str, Any]:
        asked = _argument(messages.FixAndProbe, params)
        if not server.probed.trusted:
            raise Refused(UNTRUSTED)
        if not server.editor.makes_edits:
            raise Refused("this editor makes no edits that a server asks for")
        wanted = await _wanted(server, asked)
        from gradsight_server.proving import fix_and_probe

        async def make(edit: lsp.WorkspaceEdit) -> lsp.ApplyWorkspaceEditResult:
            if server.documents.get(asked.uri) is not wanted.unit:
                raise Outdated("the document was closed")
            return await server.workspace_apply_edit_async(
                lsp.ApplyWorkspaceEditParams(edit, wanted.offer.title)
            )

        folders = [uris.to_file(each) for each in server.protocol.workspace.folders]
        progress = Progress(server, params.work_done_token, server.editor.creates_progress)
        done = await fix_and_probe(wanted, server.probed, server.settings, folders, progress, make)
        return messages.to_json(done)

    @server.command(messages.CLEAR_PROBE)
    async def clear_probe(params: lsp.ExecuteCommandParams) -> None:
        wanted = _argument(messages.ClearProbe, params)
        unit = server.documents.get(wanted.uri) if wanted.uri is not None else None
        if wanted.uri is None or unit is not None:
            server.probed.clear(unit)


async def _wanted(server: Server, asked: messages.FixAndProbe) -> Wanted:
    """The fix that is asked for.

    Raises:
        Refused: there is none; Outdated: it was one of another version.
    """
    from gradsight_server.proving import CHANGED, Wanted

    known = await server.found(asked.uri)
    if known is None:
        raise Refused("this document is not open in the editor, so there is nothing to fix")
    unit, snapshot, found = known
    if asked.version is not None and asked.version != snapshot.version:
        raise Outdated(CHANGED)
    if asked.token is not None:
        finding = _by_token(snapshot, found, asked.token)
        if finding is None:
            raise Outdated("the finding is gone, or stands elsewhere now")
        at = [finding]
    elif asked.range is not None:
        where = convert.from_range(snapshot, asked.uri, asked.range)
        at = [each for each in found.shown if each.where.start <= where.end and where.start <= each.where.end]
    else:
        at = list(found.shown)
    for finding in at:
        if finding.abroad:  # a probe runs one text
            continue
        made = await server.aside(server.offers.of, snapshot, finding, convert.to_token(snapshot, finding))
        offer = next((each for each in made if each.name == asked.offer), None)
        if offer is None and asked.offer is None:
            offer = actions.best_of(made)
        if offer is not None:
            return Wanted(unit, snapshot, finding, offer, asked.python)
    raise Refused("there is no finding with a fix here")


def _argument(kind: type[messages.Message], params: lsp.ExecuteCommandParams) -> messages.Message:
    try:
        return messages.from_json(kind, (params.arguments or [{}])[0])
    except BadMessage as error:
        raise Refused(f"{params.command}: {error}") from None
