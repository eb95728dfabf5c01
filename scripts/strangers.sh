#!/usr/bin/env bash
# Fetches the programs and the suite that tests judge Waxseal by, and unpacks them below target/strangers: nothing is
# installed, nothing of the machine's own mail system is touched or started. Idempotent. What could not be had is listed, with
# the reason, in target/strangers/absent; tests that need it are then reported as not run.
set -u
cd "$(dirname "$0")/.."
here=$PWD/target/strangers
mkdir -p "$here/debs" "$here/root"
: > "$here/absent.new"

# name of the test's need | a file that proves it | packages with the libraries that a bare machine lacks
debian() {
  local need=$1 proof=$2; shift 2
  [ -e "$here/root/$proof" ] && return 0
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "$need no apt-get on this machine" >> "$here/absent.new"; return 0
  fi
  local p
  for p in "$@"; do
    ls "$here/debs/$p"_*.deb >/dev/null 2>&1 && continue
    (cd "$here/debs" && apt-get download -qq "$p" >/dev/null 2>"$here/apt.err") && continue
    refresh && (cd "$here/debs" && apt-get download -qq "$p" >/dev/null 2>"$here/apt.err") && continue
    echo "$need package $p: $(tail -n 1 "$here/apt.err")" >> "$here/absent.new"; return 0
  done
  for p in "$@"; do dpkg -x "$here/debs/$p"_*.deb "$here/root" || return 0; done
}

# The package lists, fetched at most once.
refresh() { [ -e "$here/refreshed" ] && return 1; touch "$here/refreshed"; apt-get update -qq >/dev/null 2>&1; }
rm -f "$here/refreshed"

debian swaks usr/bin/swaks swaks libnet-ssleay-perl perl-openssl-defaults libauthen-sasl-perl
debian strace usr/bin/strace strace libunwind8
debian opendkim usr/sbin/opendkim opendkim opendkim-tools libopendkim11 libmilter1.0.1 libopendbx1 libmemcached11 \
  libhashkit2 liblua5.3-0 libvbr2 librbl1 libbsd0 libmd0 libunbound8 libevent-2.1-7
debian postfix usr/lib/postfix/sbin/master postfix sasl2-bin libsasl2-2 libsasl2-modules libsasl2-modules-db libdb5.3 \
  libicu72 libnsl2 libtirpc3
# These insist on users, paths and host names of their own, and get them in namespaces.
if unshare -mu true 2>/dev/null; then
  debian exim usr/sbin/exim4 exim4-daemon-light exim4-base libidn12 libdb5.3
  # A program with the setuid bit does not look for libraries where it is told to.
  [ -e "$here/root/usr/sbin/exim4" ] && chmod 755 "$here/root/usr/sbin/exim4"
  debian opensmtpd usr/sbin/smtpd opensmtpd libdb5.3 libevent-2.1-7
  debian sendmail usr/libexec/sendmail/sendmail sendmail-bin libdb5.3 libldap-2.5-0 liblockfile1 libnsl2 libsasl2-2 libtirpc3 libwrap0
  [ -e "$here/root/usr/libexec/sendmail/sendmail" ] && chmod 755 "$here/root/usr/libexec/sendmail/sendmail"
else
  for p in exim opensmtpd sendmail; do echo "$p no namespaces for us on this machine" >> "$here/absent.new"; done
fi

if [ ! -x "$here/venv/bin/python" ] || ! "$here/venv/bin/python" -c 'import dkim' 2>/dev/null; then
  if python3 -m venv "$here/venv" >/dev/null 2>"$here/pip.err" \
    && "$here/venv/bin/pip" install -q 'dkimpy==1.1.8' 'pynacl==1.6.2' >/dev/null 2>"$here/pip.err"; then :; else
    echo "dkimpy $(tail -n 1 "$here/pip.err")" >> "$here/absent.new"
  fi
fi
# The test suite of RFC 7208 (BSD licence), which is in pyspf's source package.
suite=$here/rfc7208-tests.yml
if [ ! -s "$suite" ]; then
  rm -rf "$here/pyspf" && mkdir -p "$here/pyspf"
  if python3 -m pip download -q --no-deps --no-binary pyspf -d "$here/pyspf" 'pyspf==2.0.14' >/dev/null 2>"$here/pip.err" \
    && tar --no-same-owner -xzf "$here"/pyspf/pyspf-*.tar.gz -C "$here/pyspf" --strip-components=2 --wildcards '*/test/rfc7208-tests.*' \
    && mv "$here"/pyspf/rfc7208-tests.* "$here/"; then :; else
    echo "rfc7208-tests $(tail -n 1 "$here/pip.err")" >> "$here/absent.new"
  fi
fi
for p in curl python3; do command -v "$p" >/dev/null || echo "$p not on this machine" >> "$here/absent.new"; done

mv "$here/absent.new" "$here/absent"
