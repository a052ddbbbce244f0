"""A listener's certificate, key and client CAs, renewed without a restart, for new connections only."""

from __future__ import annotations

from collections import deque
from typing import Final

import grpc

from eksgateway.blocking import RepeatedRead, run_blocking
from eksgateway.clock import Clock
from eksgateway.file_reader import HUNG
from eksgateway.logs import Log
from eksgateway.rpc.tls_files import TlsFiles, TlsFilesError, UsableTls, Validity, check_files, read_files
from eksgateway.settings import SettingsError, TlsSettings

log = Log(__name__)

CHECK_INTERVAL_S: Final = 2.0
_EXPIRES_SOON: Final = 0.2  # of its validity is left


class Certificates:
    """The files of one listener: ``load`` them once, then ``run``.

    Files that cannot be used are logged once, and the ones in use stay in use.
    """

    def __init__(self, settings: TlsSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._files: TlsFiles | None = None  # in use
        self._usable = UsableTls((), None)  # the part of them that is in use
        self._changed_files: TlsFiles | None = None
        self._fault = ""
        self._reader = RepeatedRead(lambda: read_files(settings))
        self._warned: set[tuple[str, Validity]] = set()
        # For core's threads: the newest one, until a handshake takes it.
        self._renewed: deque[grpc.ServerCertificateConfiguration] = deque(maxlen=1)

    async def load(self) -> grpc.ServerCredentials:
        """Raises SettingsError."""
        try:
            files = await self._reader.read()
            usable = await self._check_files(files)
        except TlsFilesError as exc:
            raise SettingsError(f"tls: {exc}") from exc
        except TimeoutError as exc:
            raise SettingsError(f"tls: {self._settings.certificate}: {HUNG}") from exc
        return grpc.dynamic_ssl_server_credentials(
            self._use(files, usable),
            self._take_renewed,  # type: ignore[arg-type]  # the stub lacks None, which is no change
            require_client_authentication=files.client_ca is not None,
        )

    async def run(self) -> None:
        """Renew every ``CHECK_INTERVAL_S`` until cancelled."""
        while True:
            await self._clock.sleep(CHECK_INTERVAL_S)
            try:
                await self.renew()
            except Exception:  # one odd file must not end all renewals
                log.exception("tls.unexpected", certificate=str(self._settings.certificate))

    async def renew(self) -> None:
        self._warn_of_expiry()
        try:
            files = await self._reader.read()
            recheck_at = self._usable.recheck_at
            if files == self._files and (recheck_at is None or self._clock.now() < recheck_at):
                self._fault = ""
                return
            if files not in (self._changed_files, self._files):
                self._changed_files = files  # may be half written: used if the next check reads the same
                return
            usable = await self._check_files(files)
        except TlsFilesError as exc:
            self._log_fault(str(exc))
            return
        except TimeoutError:
            self._log_fault(f"{self._settings.certificate}: {HUNG}")
            return
        self._renewed.append(self._use(files, usable))
        ends = {str(each.path): each.not_after.isoformat() for each in usable.validities}
        log.info("tls.renewed", ends=ends)

    async def _check_files(self, files: TlsFiles) -> UsableTls:
        # On a thread: a bundle may hold hundreds of certificates.
        return await run_blocking(check_files, self._settings, files, self._clock.now())

    def _use(self, files: TlsFiles, usable: UsableTls) -> grpc.ServerCertificateConfiguration:
        if usable.dropped and (files != self._files or usable.dropped != self._usable.dropped):
            log.error("tls.ca_dropped", file=str(self._settings.client_ca), dropped=usable.dropped)
        self._files, self._usable, self._fault = files, usable, ""
        pairs = [(files.key, files.certificate)]
        return grpc.ssl_server_certificate_configuration(pairs, root_certificates=usable.roots)

    def _log_fault(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            log.error("tls.not_renewed", fault=fault, effect="the files in use stay in use")

    def _take_renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by core before each handshake, on its own threads; None is no change."""
        try:
            return self._renewed.popleft()
        except IndexError:
            return None

    def _warn_of_expiry(self) -> None:
        now = self._clock.now()
        for validity in self._usable.validities:
            left, whole = validity.not_after - now, validity.not_after - validity.not_before
            if left >= _EXPIRES_SOON * whole:
                continue
            event = "tls.expires_soon" if now < validity.not_after else "tls.expired"
            if (event, validity) not in self._warned:
                self._warned.add((event, validity))
                log.warning(event, file=str(validity.path), ends=validity.not_after.isoformat())
