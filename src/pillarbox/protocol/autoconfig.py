"""The file from which Thunderbird, and others that learnt it, take their settings: config-v1.1.xml.

Its format: https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat. A client asks
http://autoconfig.DOMAIN/mail/config-v1.1.xml and https://DOMAIN/.well-known/autoconfig/mail/config-v1.1.xml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

PATH = "/.well-known/autoconfig/mail/config-v1.1.xml"
NAME = "%EMAILADDRESS%"  # a whole address is a login name here
# In the order in which a client tries them. Under TLS a password is safe; "encrypted": APOP, CRAM-MD5.
INCOMING = (
    ("pop3s", "SSL", ("password-cleartext",)),
    ("pop3", "STARTTLS", ("password-encrypted", "password-cleartext")),
)
OUTGOING = (
    ("submissions", "SSL", ("password-cleartext",)),
    ("submission", "STARTTLS", ("password-encrypted", "password-cleartext")),
)


def document(domains: Sequence[str], hostname: str, ports: Mapping[str, int]) -> str:
    """`ports`: by the names of `listen`; a service that is missing is not offered."""
    root = ElementTree.Element("clientConfig", version="1.1")
    provider = ElementTree.SubElement(root, "emailProvider", id=domains[0])
    for domain in domains:
        _text(provider, "domain", domain)
    _text(provider, "displayName", domains[0])
    _text(provider, "displayShortName", domains[0])
    for service, socket, ways in INCOMING:
        if service in ports:
            server = _server(provider, "incomingServer", "pop3", hostname, ports[service], socket, ways)
            _text(ElementTree.SubElement(server, "pop3"), "leaveMessagesOnServer", "true")
    for service, socket, ways in OUTGOING:
        if service in ports:
            _server(provider, "outgoingServer", "smtp", hostname, ports[service], socket, ways)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _server(
    provider: ElementTree.Element, tag: str, kind: str, hostname: str, port: int, socket: str, ways: Sequence[str]
) -> ElementTree.Element:
    server = ElementTree.SubElement(provider, tag, type=kind)
    _text(server, "hostname", hostname)
    _text(server, "port", str(port))
    _text(server, "socketType", socket)
    for way in ways:
        _text(server, "authentication", way)
    _text(server, "username", NAME)
    return server


def _text(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text
