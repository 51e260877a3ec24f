"""Certificates for tests, made by the program `openssl` when they are first asked for, in a folder that is removed at the end
of the process.

    certificates.ca()                    # path of the authority that tests trust by ca_file
    certificates.server()                # an ssl.SSLContext with a good certificate for 127.0.0.1, localhost and *.test
    certificates.server("expired")       # or "other_host", "self_signed", "stranger" (of an authority nobody trusts)
"""
import atexit
import functools
import os
import shutil
import ssl
import subprocess
import tempfile

GOOD = "DNS:localhost,DNS:upstream.test,IP:127.0.0.1"


@functools.lru_cache(maxsize=None)
def folder():
    path = tempfile.mkdtemp(prefix="embedd-certificates-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def path(name):
    return os.path.join(folder(), name)


def openssl(*words):
    done = subprocess.run(["openssl", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise AssertionError("openssl %s: %s" % (" ".join(words), done.stdout.decode(errors="replace")))


@functools.lru_cache(maxsize=None)
def authority(name):
    """A self-signed authority: (certificate, key)."""
    cert, key = path(name + ".pem"), path(name + ".key")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
            "/CN=Tests " + name, "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
            "keyUsage=critical,keyCertSign,cRLSign", "-keyout", key, "-out", cert)
    return cert, key


def ca():
    return authority("ca")[0]


@functools.lru_cache(maxsize=None)
def issued(kind):
    """(certificate, key) of a server."""
    cert, key, request, more = path(kind + ".pem"), path(kind + ".key"), path(kind + ".csr"), path(kind + ".ext")
    names = "DNS:elsewhere.test,IP:127.0.0.9" if kind == "other_host" else GOOD
    if kind == "self_signed":
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                "/CN=127.0.0.1", "-addext", "subjectAltName=" + names, "-keyout", key, "-out", cert)
        return cert, key
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=server",
            "-keyout", key, "-out", request)
    with open(more, "w") as f:
        f.write("subjectAltName=%s\nbasicConstraints=CA:FALSE\n" % names)
    issuer, issuer_key = authority("stranger_ca" if kind == "stranger" else "ca")
    openssl("x509", "-req", "-in", request, "-CA", issuer, "-CAkey", issuer_key, "-set_serial", str(len(kind) + 100), "-days",
            "-1" if kind == "expired" else "2", "-extfile", more, "-out", cert)
    return cert, key


def server(kind="good", version=None, alpn=None):
    """version: "1.2" or "1.3" alone; alpn: what is offered, such as ["h2", "http/1.1"]."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued(kind))
    if version:
        context.minimum_version = context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
    if alpn:
        context.set_alpn_protocols(alpn)
    return context
