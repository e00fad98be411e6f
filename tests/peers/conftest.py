"""The fixtures of this folder, for its own tests."""

from .fixtures import authority, names, opensmtpd_exchanger, postfix_exchanger

__all__ = ["authority", "names", "opensmtpd_exchanger", "postfix_exchanger"]
