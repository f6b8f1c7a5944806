#!/bin/sh
# Installs hub-import (and hub-export) from this folder, without a network. Needs Python and nothing else.
#
#   sh install.sh [--prefix DIR] [--bin DIR] [--python PATH] [--key PUBLIC-KEY]
#   sh install.sh --uninstall [--prefix DIR]
#
# A new version is installed next to the old one and replaces it when it works: DIR/current is a link to it.
set -eu
umask 022
LC_ALL=C
export LC_ALL
unset PYTHONHOME PYTHONPATH CDPATH

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}
usage() {
    say "usage: sh install.sh [--prefix DIR] [--bin DIR] [--python PATH] [--key PUBLIC-KEY] | --uninstall [--prefix DIR]"
    exit "$1"
}

kit=$(cd -- "$(dirname -- "$0")" && pwd -P) || fail "the folder of $0 cannot be entered"
if [ "$(id -u)" = 0 ]; then
    prefix=/opt/hub-airgap
    bin=/usr/local/bin
else
    prefix=${HOME:-/nonexistent}/.local/share/hub-airgap
    bin=${HOME:-/nonexistent}/.local/bin
fi
python=
key=
uninstall=
while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --bin | --python | --key)
        if [ $# -lt 2 ] || [ -z "$2" ]; then fail "$1 needs a value"; fi
        case $1 in
        --prefix) prefix=$2 ;;
        --bin) bin=$2 ;;
        --python) python=$2 ;;
        --key) key=$2 ;;
        esac
        shift 2
        ;;
    --uninstall)
        uninstall=yes
        shift
        ;;
    -h | --help) usage 0 ;;
    *)
        printf 'error: unknown option %s\n' "$1" >&2
        usage 2 >&2
        ;;
    esac
done
case $prefix in /*) ;; *) prefix=$(pwd)/$prefix ;; esac
case $bin in /*) ;; *) bin=$(pwd)/$bin ;; esac
case $key in /* | '') ;; *) key=$(pwd)/$key ;; esac
mark=$prefix/hub-airgap.links # the links that were made; a folder with this file belongs to this script

# Removes the links that point into the prefix, and no other file in their place.
unlink_ours() {
    [ -f "$mark" ] || return 0
    while IFS= read -r link; do
        case $(readlink "$link" 2>/dev/null || :) in
        "$prefix"/*) rm -f -- "$link" || fail "$link cannot be removed" ;;
        esac
    done <"$mark"
}

if [ -n "$uninstall" ]; then
    [ -f "$mark" ] || fail "nothing is installed in $prefix" "Say where it is with --prefix DIR."
    unlink_ours
    for each in "$prefix"/env.*; do
        if [ -d "$each" ]; then rm -rf -- "$each" || fail "$each cannot be removed"; fi
    done
    rm -f -- "$prefix/current" "$mark" || fail "$prefix cannot be changed"
    rmdir -- "$prefix" 2>/dev/null || say "$prefix holds other files, and stays"
    say "hub-airgap is removed from $prefix"
    exit 0
fi

# --- is the kit whole? -----------------------------------------------------------------------------------------------
cd -- "$kit"
[ -f SHA256SUMS ] || fail "$kit has no SHA256SUMS: it is not complete" "Copy the whole folder again."
if [ -n "$key" ]; then
    [ -f "$key" ] || fail "--key $key: there is no such file" "Name the public key (PEM) that came over a trusted channel."
    [ -f SHA256SUMS.sig ] || fail "$kit is not signed" "Make it with hub-export kit --sign KEY; nothing was installed."
    command -v openssl >/dev/null 2>&1 || fail "there is no openssl, with which the signature is checked" "Install openssl."
    # Ed25519 and OpenSSL 3; then ECDSA P-256, which OpenSSL 1.1.1 of RHEL 8 can check too.
    openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null 2>&1 ||
        openssl dgst -sha256 -verify "$key" -signature SHA256SUMS.sig SHA256SUMS >/dev/null 2>&1 ||
        fail "the signature of SHA256SUMS was not made with $key" \
            "Get kit and key again; nothing was installed. OpenSSL before 3.0 cannot check Ed25519: sign with ecdsa-p256."
    say "the signature is that of $key"
elif [ -f SHA256SUMS.sig ]; then
    say "note: the kit is signed; --key PUBLIC-KEY checks the signature"
fi
command -v sha256sum >/dev/null 2>&1 || fail "there is no sha256sum, with which the kit is checked" "Install coreutils."
bad=$(sha256sum -c SHA256SUMS 2>/dev/null | sed -n 's/: FAILED.*//p') || :
[ -z "$bad" ] || fail "damaged, or not there: $(printf '%s' "$bad" | tr '\n' ' ')" "Copy the kit again; nothing was installed."
sha256sum -c SHA256SUMS >/dev/null 2>&1 || fail "SHA256SUMS cannot be checked" "Copy the kit again; nothing was installed."
for wheel in wheels/*; do
    grep -q -F -x -e "$(sha256sum "$wheel" | cut -c1-64)  $wheel" SHA256SUMS || fail "$kit/$wheel is not in SHA256SUMS" \
        "It does not belong to the kit; nothing was installed."
done

# --- which Python? ---------------------------------------------------------------------------------------------------
# Prints machine and version of a Python, or why it cannot be used.
look='import os, platform, sys, sysconfig
if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"): print("- not the usual CPython"); sys.exit()
if platform.libc_ver()[0] != "glibc": print("- not built for glibc"); sys.exit()
if tuple(map(int, (platform.libc_ver()[1] or "0").split(".")[:2])) < (2, 28): print("- glibc older than 2.28"); sys.exit()
print(sysconfig.get_platform().split("-")[-1], "%d.%d" % sys.version_info[:2])'
chosen=
seen=
try() {
    [ -z "$chosen" ] || return 0
    path=$(command -v "$1" 2>/dev/null) || return 0
    found=$("$path" -I -c "$look" 2>/dev/null) || found="- does not run"
    case $found in
    "- "*) seen="$seen
$path: ${found#- }" ;;
    *)
        if grep -q "^$found " platforms.txt; then
            requirement=$(sed -n "s/^$found //p" platforms.txt | head -n 1)
            chosen=$path
        else
            seen="$seen
$path: Python ${found#* } on ${found% *}"
        fi
        ;;
    esac
}
if [ -n "$python" ]; then
    try "$python"
    [ -n "$seen$chosen" ] || fail "--python $python: there is no such program"
else
    for each in python3.13 python3.12 python3.11 python3 /usr/libexec/platform-python; do try "$each"; done
fi
if [ -z "$chosen" ]; then
    has=$(sed -n 's/^\([a-z0-9_]*\) \(3[.0-9]*\) .*/Python \2 on \1/p' platforms.txt)
    [ -n "$seen" ] || seen="
there is no python3 on PATH"
    printf 'error: no Python that this kit has wheels for. Looked at:%s\n' "$seen" | sed '2,$s/^/  /' >&2
    printf 'The kit has wheels for:\n%s\n' "$has" | sed '2,$s/^/  /' >&2
    printf '  %s\n' "Install one of them (dnf install python3.11; apt-get install python3) or name one with --python PATH." \
        "hub-import may run on any machine that reaches the registry and the cluster." >&2
    exit 1
fi

# --- where to? -------------------------------------------------------------------------------------------------------
if [ -e "$prefix" ] && [ ! -f "$mark" ] && [ -n "$(ls -A "$prefix" 2>/dev/null)" ]; then
    fail "$prefix holds something else" "Choose another folder with --prefix DIR, or move it away."
fi
mkdir -p -- "$prefix" 2>/dev/null || fail "$prefix cannot be made" "Choose another folder with --prefix DIR, or ask its owner."
[ -w "$prefix" ] || fail "no permission to write in $prefix" "Choose another folder with --prefix DIR, or ask its owner."
[ -f "$mark" ] || : >"$mark" || fail "$mark cannot be written" "Choose another folder with --prefix DIR."
env=$prefix/env.$(date +%Y%m%d%H%M%S).$$
old=$(readlink "$prefix/current" 2>/dev/null || :)

# A new version that does not work is removed; the earlier one stays.
give_up() {
    status=$?
    trap - EXIT
    [ "$status" = 0 ] || {
        rm -rf -- "$env"
        if [ -z "$old" ]; then
            rm -f -- "$mark"
            rmdir -- "$prefix" 2>/dev/null || :
        else
            printf '  %s\n' "The version that was installed before is unchanged." >&2
        fi
    }
    exit "$status"
}
trap give_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir -- "$env" || fail "$env cannot be made"
{ printf '#!/bin/sh\nexit 0\n' >"$env/probe"; } || fail "no space left in $prefix"
chmod +x "$env/probe" || fail "$env/probe cannot be made a program"
"$env/probe" 2>/dev/null || fail "programs in $prefix may not be run (mounted noexec?)" "Choose another folder with --prefix DIR."
rm -f -- "$env/probe"

# --- install ---------------------------------------------------------------------------------------------------------
say "installing $requirement with $chosen ($found) into $prefix"
"$chosen" -I -m venv --without-pip "$env" || fail "$chosen cannot make a virtual environment" \
    "On Debian: apt-get install python3-venv. Or name another Python with --python PATH."
for pip in wheels/pip-*.whl; do :; done # the last one
"$env/bin/python" -I "$kit/$pip/pip" --isolated install --quiet --no-index --find-links "$kit/wheels" --no-cache-dir \
    --disable-pip-version-check --no-input --only-binary :all: "$requirement" ||
    fail "pip could not install $requirement (above)" "Is there enough space in $prefix and in ${TMPDIR:-/tmp}?"
version=$("$env/bin/hub-import" --version) || fail "what was installed does not run (above)"

"$chosen" -I -c 'import os, sys
target, link = sys.argv[1:]
if os.path.lexists(link + ".new"): os.unlink(link + ".new")
os.symlink(target, link + ".new"); os.replace(link + ".new", link)' "$(basename -- "$env")" "$prefix/current" ||
    fail "$prefix/current cannot be changed"
trap - EXIT INT TERM HUP
for each in "$prefix"/env.*; do
    [ "$each" = "$env" ] || rm -rf -- "$each" || :
done

# --- links -----------------------------------------------------------------------------------------------------------
say "hub-airgap $version is installed."
mkdir -p -- "$bin" 2>/dev/null || :
unlinked=
for name in hub-import hub-export; do
    link=$bin/$name
    if [ -e "$link" ] || [ -L "$link" ]; then
        case $(readlink "$link" 2>/dev/null || :) in
        "$prefix"/*) ;;
        *)
            say "note: $link is something else, and stays"
            unlinked=yes
            continue
            ;;
        esac
    fi
    if rm -f -- "$link" 2>/dev/null && ln -s -- "$prefix/current/bin/$name" "$link" 2>/dev/null; then
        grep -q -F -x -e "$link" "$mark" || printf '%s\n' "$link" >>"$mark"
    else
        say "note: no link could be made in $bin"
        unlinked=yes
    fi
done
case :${PATH:-}: in
*":$bin:"*) [ -z "$unlinked" ] || say "Run it as: $prefix/current/bin/hub-import" ;;
*)
    if [ -n "$unlinked" ]; then say "Run it as: $prefix/current/bin/hub-import"; else
        say "$bin is not on PATH. Run it as $bin/hub-import, or put this line into ~/.profile:"
        # shellcheck disable=SC2016
        printf '  PATH=%s:$PATH\n' "$bin"
    fi
    ;;
esac
