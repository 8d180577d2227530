# Sourced, not run. Takes Debian or Ubuntu packages apart into a directory: no root, nothing installed, no service started.
#
#   debs_unpack DIR PACKAGE...   download these packages and unpack them under DIR
#   debs_needed PACKAGE...       print the packages that installing these would add to this machine
#
# Uses the machine's own sources. Where the machine has no package lists yet (or old ones), lists of our own are
# fetched under .cache/apt, which an ordinary user may do too.

debs_cache="$PWD/.cache/apt"

debs_apt() {
    if [ -e "$debs_cache/lists-fetched" ]; then
        set -- -o "Dir::State::Lists=$debs_cache/lists" -o "Dir::Cache=$debs_cache/cache" "$@"
    fi
    # Sandbox user root: apt's own user may not write into a private directory. Without effect for others than root.
    LC_ALL=C apt-get -qq -o APT::Sandbox::User=root "$@"
}

debs_lists() {
    mkdir -p "$debs_cache/lists/partial" "$debs_cache/cache/archives/partial"
    echo "fetching package lists (once) ..." >&2
    touch "$debs_cache/lists-fetched"
    if ! debs_apt update >&2; then
        rm -f "$debs_cache/lists-fetched"
        echo "the package lists cannot be fetched: is the network there, and are the sources in /etc/apt right?" >&2
        return 1
    fi
}

debs_have_apt() {
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1
}

debs_needed() {
    debs_plan=$(debs_apt -s install --no-install-recommends "$@" 2>/dev/null) || {
        debs_lists && debs_plan=$(debs_apt -s install --no-install-recommends "$@")
    } || return 1
    echo "$debs_plan" | awk '$1 == "Inst" { print $2 }'
}

debs_unpack() {
    debs_to=$1
    shift
    rm -rf "$debs_cache/debs"
    mkdir -p "$debs_cache/debs" "$debs_to/usr/bin" "$debs_to/usr/sbin" "$debs_to/usr/lib" "$debs_to/usr/lib64"
    for debs_link in bin sbin lib lib64; do        # one tree, whether a package still says /lib or already /usr/lib
        [ -e "$debs_to/$debs_link" ] || ln -s "usr/$debs_link" "$debs_to/$debs_link"
    done
    (cd "$debs_cache/debs" && debs_apt download "$@" >/dev/null 2>&1) || {
        debs_lists && (cd "$debs_cache/debs" && debs_apt download "$@")
    } || return 1
    for debs_file in "$debs_cache/debs"/*.deb; do
        dpkg-deb --fsys-tarfile "$debs_file" | tar -x --keep-directory-symlink -C "$debs_to" || return 1
    done
    rm -rf "$debs_cache/debs"
}
