"""Who analyses what, and when: one thread with the one `Engine`.

Invariants: the loop's thread never analyses, so that requests are answered while a long analysis runs; of a
burst of edits the last one is analysed and published, those before it only if the thread gets round to them;
what is dear and can wait (the whole file's syntax, the garbage) is done when nobody has typed for a while.
"""

from __future__ import annotations

import gc
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from gradsight_server.documents import Snapshot

if TYPE_CHECKING:
    from gradsight.engine import Engine, Findings
    from gradsight.importing import Files

logger = logging.getLogger(__name__)

PAUSE = 0.3  # seconds without work after which the users of a file that changed are looked at
QUIET = 1.0  # seconds without work after which the dear things are done
ANYWAY = 1.0  # seconds after which even an outdated result is published
COLLECTED = 32  # documents that were read and forgotten, after which their garbage is collected
FREEZES = 50  # times that are frozen before the frozen is looked through again

Result = TypeVar("Result")
Later = Callable[[], Snapshot]


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """What the engine said about a snapshot, before any configuration."""

    snapshot: Snapshot
    findings: Findings
    whole: bool  # the whole file's syntax was looked at too


class Analyses:
    """The thread and its queues. All public methods are for the loop's thread."""

    def __init__(
        self,
        done: Callable[[Analysis, bool], None],
        ready: Callable[[], None],
        keeps: Callable[[str], bool],
        files: Files,
        uses: Callable[[set[str]], Iterable[tuple[str, Later]]],
    ) -> None:
        """All are called on the analysing thread. `done` hears of a result, and whether a newer snapshot is
        waiting already; `keeps` says whether a document's graphs are worth keeping; `files` reads those
        around it; `uses` gives the open documents of some files."""
        self._done, self._ready, self._keeps, self._files, self._uses = done, ready, keeps, files, uses
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._questions: deque[tuple[Future[Any], Callable[[Engine], Any]]] = deque()
        self._edited: OrderedDict[str, Later] = OrderedDict()  # the one that was edited last comes first
        self._opened: OrderedDict[str, Later] = OrderedDict()
        self._dropped: deque[tuple[str, str]] = deque()  # names and files that are not used any longer
        self._idle: OrderedDict[str, Analysis] = OrderedDict()  # whose whole syntax was not looked at
        self._moved: set[str] = set()  # files that changed under others, which are looked at when it is quiet
        self._closed = False
        self._grown = True  # something was analysed since garbage was collected
        self._freezes = self._forgotten = self._settled = 0

    def start(self) -> None:
        """Load the engine and begin."""
        Thread(target=self._run, name="gradsight-analysis", daemon=True).start()

    def close(self) -> None:
        """Do nothing more."""
        self._closed = True
        self._wake.put(None)

    def want(self, uri: str, later: Later, edited: bool) -> None:
        """Analyse this instead of any earlier version of it; edited documents before those just opened."""
        opened = self._opened.pop(uri, None)
        self._edited.pop(uri, None)
        (self._edited if edited and opened is None else self._opened)[uri] = later
        self._wake.put(None)

    def drop(self, uri: str, file: str) -> None:
        """Keep no graphs of this one, unless it is used again meanwhile."""
        self._dropped.append((uri, file))
        self._wake.put(None)

    def forget(self, uri: str) -> None:
        """Its document is closed."""
        for waiting in (self._edited, self._opened, self._idle):
            waiting.pop(uri, None)

    def is_waiting(self, uri: str) -> bool:
        """Whether a version of this document has still to be analysed."""
        return uri in self._edited or uri in self._opened

    def ask(self, question: Callable[[Engine], Result]) -> Future[Result]:
        """Put a question to the engine, before the next analysis."""
        future: Future[Result] = Future()
        self._questions.append((future, question))
        self._wake.put(None)
        return future

    # -- on the analysing thread

    def _run(self) -> None:
        from gradsight.engine import Engine
        from gradsight.rules import RULES

        gc.set_threshold(200_000, 50, 1_000_000)  # the old generation is gone through when nobody waits
        engine = Engine(lambda where, error: logger.error("%s failed", where, exc_info=error))
        logger.info("%d rules", len(RULES))
        self._ready()
        while not self._closed:
            try:
                quiet = QUIET if self._idle or self._grown else None
                self._wake.get(timeout=PAUSE if self._moved else quiet)
            except Empty:
                if self._moved:
                    self._look_at_users(engine)
                else:
                    self._use_quiet(engine)
                continue
            while not self._wake.empty():
                self._wake.get()
            while not self._closed and self._step(engine):
                pass

    def _step(self, engine: Engine) -> bool:
        """Do what is most urgent. False: there is nothing."""
        if self._edited:
            return self._take(engine, self._edited, last=True, whole=False)
        if self._questions:
            future, question = self._questions.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(question(engine))
                except BaseException as error:
                    future.set_exception(error)
            return True
        if self._dropped:  # before more is opened: a session's thousand documents come without a pause
            uri, file = self._dropped.popleft()
            if not self._keeps(uri):
                self._forget(engine, file)
            return True
        if self._opened:  # one parse of the whole is little beside the first analysis
            return self._take(engine, self._opened, last=False, whole=True)
        return False

    def _take(self, engine: Engine, waiting: OrderedDict[str, Later], last: bool, whole: bool) -> bool:
        try:
            _, later = waiting.popitem(last)
        except KeyError:  # closed meanwhile
            return True
        self._analyse(engine, later(), whole)
        return True

    def _analyse(self, engine: Engine, snapshot: Snapshot, whole: bool) -> None:
        try:
            findings = engine.analyze(snapshot.source, self._files, at_once=whole, at_home=True)
        except Exception:
            logger.exception("%s could not be analysed", snapshot.uri)
            from gradsight.engine import Findings

            findings = Findings(())
        self._grown = True
        engine.analysed.clear()
        analysis = Analysis(snapshot, findings, whole)
        if whole:
            self._idle.pop(snapshot.uri, None)
        else:
            self._idle[snapshot.uri] = analysis
        try:
            self._done(analysis, self.is_waiting(snapshot.uri))
        except Exception:
            logger.exception("what was found in %s could not be published", snapshot.uri)
            self._say_nothing(snapshot, whole)
        if not self._keeps(snapshot.uri):
            self._idle.pop(snapshot.uri, None)
            self._forget(engine, snapshot.source.file)

    def changed(self, file: str) -> None:
        """A file is another now: who reads it has to be looked at again. On any thread."""
        self._moved.add(file)
        self._wake.put(None)

    def _look_at_users(self, engine: Engine) -> None:
        """Analyse those that read files which have changed."""
        moved, self._moved = self._moved, set()
        for uri, later in self._uses(engine.linker.users(moved)):
            if uri not in self._edited:
                self._opened[uri] = later
        if self._opened:
            self._wake.put(None)

    def _say_nothing(self, snapshot: Snapshot, whole: bool) -> None:
        """Nothing was found, then: whoever waits for this text shall not wait for ever."""
        from gradsight.engine import Findings

        self._idle.pop(snapshot.uri, None)
        try:
            self._done(Analysis(snapshot, Findings(()), whole), False)
        except Exception:
            logger.exception("not even that nothing was found in %s", snapshot.uri)

    def _forget(self, engine: Engine, file: str) -> None:
        engine.forget(file)
        self._forgotten += 1
        if self._forgotten % COLLECTED == 0:  # many are being opened, and there may be no quiet for long
            gc.unfreeze()
            gc.collect()

    def _use_quiet(self, engine: Engine) -> None:
        while self._idle and self._wake.empty():
            try:
                _, analysis = self._idle.popitem()
            except KeyError:  # closed meanwhile
                break
            if not any(finding.code == "GS001" for finding in analysis.findings.findings):
                self._analyse(engine, analysis.snapshot, whole=True)
        if self._grown and self._wake.empty():
            began = time.perf_counter()
            self._freezes += 1
            if self._freezes % FREEZES == 0 or self._forgotten != self._settled:
                gc.unfreeze()
                self._settled = self._forgotten
            gc.collect()
            gc.freeze()
            self._grown = False
            logger.debug("collected in %.0f ms", 1000 * (time.perf_counter() - began))
