"""A listener's certificate, key and client CA: put in force, and renewed without a restart.

Connections keep what they were made with until they end; this decides for new ones only.
"""

from __future__ import annotations

from collections import deque

import grpc

from eksgateway.blocking import RepeatedRead, run_blocking
from eksgateway.clock import Clock
from eksgateway.file_reader import HUNG
from eksgateway.logs import Log
from eksgateway.rpc.tls_files import Files, Judged, Term, Unusable, judge, read_files
from eksgateway.settings import SettingsError, TlsSettings

log = Log(__name__)

LOOK_S = 2.0
_LATE = 0.2  # of its life is left: a renewal should have come by now


class Certificates:
    """The files of one listener. ``read`` them once, then ``keep`` looking for newer ones.

    Files that cannot be used are logged once and change nothing: what was in force stays. A CA that cannot be
    used harms no other one of its bundle.
    """

    def __init__(self, settings: TlsSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._in_force: Files | None = None
        self._judged = Judged((), None)
        self._seen: Files | None = None
        self._fault = ""
        self._reader = RepeatedRead(lambda: read_files(settings))
        self._warned: set[tuple[str, Term]] = set()
        # From the event loop to core's threads: holds the newest until the next connection takes it.
        self._fresh: deque[grpc.ServerCertificateConfiguration] = deque(maxlen=1)

    async def read(self) -> grpc.ServerCredentials:
        """What to listen with. Raises SettingsError."""
        try:
            files = await self._reader.read()
            judged = await self._judge(files)
        except Unusable as exc:
            raise SettingsError(f"tls: {exc}") from exc
        except TimeoutError as exc:
            raise SettingsError(f"tls: {self._settings.certificate}: {HUNG}") from exc
        self._put(files, judged)
        return grpc.dynamic_ssl_server_credentials(
            _configuration(files, judged),
            self._fetch,  # type: ignore[arg-type]  # its stub does not know that None is no change
            require_client_authentication=files.client_ca is not None,
        )

    async def keep(self) -> None:
        """Look again and again; runs until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:  # one odd file must not end all renewals
                log.exception("tls.unexpected", certificate=str(self._settings.certificate))

    async def look(self) -> None:
        """Put in force what the files hold now, if it can be used."""
        self._warn()
        try:
            files = await self._reader.read()
            if files == self._in_force and not self._due():
                self._fault = ""
                return
            if files not in (self._seen, self._in_force):  # perhaps half written
                self._seen = files  # judged when two looks find the same
                return
            judged = await self._judge(files)
        except Unusable as exc:
            self._refuse(str(exc))
            return
        except TimeoutError:
            self._refuse(f"{self._settings.certificate}: {HUNG}")
            return
        self._put(files, judged)
        self._fresh.append(_configuration(files, judged))
        log.info("tls.renewed", ends={str(term.path): term.ends.isoformat() for term in judged.terms})

    async def _judge(self, files: Files) -> Judged:
        """A bundle may hold hundreds of certificates, so it is parsed on a thread."""
        return await run_blocking(judge, self._settings, files, self._clock.now())

    def _put(self, files: Files, judged: Judged) -> None:
        if judged.dropped and (files != self._in_force or judged.dropped != self._judged.dropped):
            log.error("tls.ca_dropped", file=str(self._settings.client_ca), dropped=judged.dropped)
        self._in_force, self._judged, self._fault = files, judged, ""

    def _due(self) -> bool:
        """Whether a CA that was not valid yet when it was judged is valid now."""
        again = self._judged.again
        return again is not None and self._clock.now() >= again

    def _refuse(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            log.error("tls.not_renewed", fault=fault, effect="what was in force stays")

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by core before each handshake, on its own threads; None is no change."""
        try:
            return self._fresh.popleft()
        except IndexError:
            return None

    def _warn(self) -> None:
        now = self._clock.now()
        for term in self._judged.terms:
            if term.ends - now >= _LATE * (term.ends - term.starts):
                continue
            event = "tls.expires_soon" if now < term.ends else "tls.expired"
            if (event, term) not in self._warned:
                self._warned.add((event, term))
                log.warning(event, file=str(term.path), ends=term.ends.isoformat())


def _configuration(files: Files, judged: Judged) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(files.key, files.certificate)], root_certificates=judged.roots
    )
