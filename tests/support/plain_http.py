"""What clients of plain HTTP need, and no more."""

import ssl

NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""`verify` of a client that has no use for TLS. By default, each client reads the authorities anew, which takes 35 ms."""
