"""Listeners: their address, and the credentials that they require."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from eksgateway.settings.section import Address, FilePath, Section, is_local


class TlsSettings(Section):
    """PEM files. ``client_ca`` is the CA bundle for client certificates."""

    certificate: FilePath
    key: FilePath
    client_ca: FilePath | None = None


class ListenerSettings(Section):
    """``demand`` names the credentials that its calls must present.

    ``trust_domain`` is the SPIFFE trust domain of ``tls.client_ca``. A listener has only one, so that no
    domain's CA can issue certificates for another domain's callers.
    """

    address: Address = "127.0.0.1:50051"
    demand: Literal["jwt", "mtls", "both"] = "jwt"
    tls: TlsSettings | None = None
    trust_domain: Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,255}$")] | None = None
    mesh_terminates_tls: bool = False

    @property
    def requires_token(self) -> bool:
        return self.demand != "mtls"

    @property
    def requires_certificate(self) -> bool:
        return self.demand != "jwt"

    @model_validator(mode="after")
    def _check_encryption(self) -> Self:
        if self.tls is None and not self.mesh_terminates_tls and not is_local(self.address):
            raise ValueError(
                f"`address: {self.address}` is not loopback and there is no TLS: set `tls.certificate`"
                " and `tls.key`, or listen on 127.0.0.1, or set `mesh_terminates_tls: true` if a"
                " service mesh terminates TLS in front of this process"
            )
        return self

    @model_validator(mode="after")
    def _check_client_certificates(self) -> Self:
        ca = self.tls.client_ca if self.tls else None
        if not self.requires_certificate and (ca or self.trust_domain):
            raise ValueError(
                "`demand: jwt` asks for no certificate: remove `tls.client_ca` and `trust_domain`, or"
                " demand `mtls` or `both` (a certificate cannot be optional)"
            )
        if self.requires_certificate and not (ca and self.trust_domain):
            raise ValueError(
                f"`demand: {self.demand}` needs `tls.certificate`, `tls.key`, `tls.client_ca` and"
                " `trust_domain`: this process verifies client certificates itself, and no mesh does it"
            )
        return self
