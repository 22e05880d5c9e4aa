"""Certificates of the tests' own, for servers over TLS on 127.0.0.1."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificates(folder: Path) -> tuple[Path, tuple[Path, Path]]:
    """Return a certificate authority, and the certificate and key of a server on 127.0.0.1 that it vouches for."""
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    now = datetime.now(UTC)

    def sign(key: ec.EllipticCurvePrivateKey, subject: x509.Name, extension: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
        signed = builder.add_extension(extension, critical=True).sign(authority, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    contents = {
        "authority.pem": sign(authority, name, x509.BasicConstraints(ca=True, path_length=None)),
        "server.pem": sign(server, x509.Name([]), address),
        "server.key": server.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    return folder / "authority.pem", (folder / "server.pem", folder / "server.key")
