#!/bin/sh
# Gets the programs that tests run against, where this machine lacks them, from Debian's or Ubuntu's packages:
# Prometheus, Alertmanager, make, a C compiler, OpenSSL, systemd-analyze and Chromium.
#
# Prometheus and Alertmanager are always unpacked under .cache/tools: installed, they would be started as services.
# The rest is installed as root, and unpacked too for an ordinary user. Prints the PATH with which tests find them all.
set -eu
cd "$(dirname "$0")/.."
. scripts/debs.sh
tools=$PWD/.cache/tools
PATH=$tools/wrap:$PATH:$tools/usr/bin:/usr/local/sbin:/usr/sbin:/sbin

package_of() {
    case $1 in
        prometheus | promtool) echo prometheus ;;
        prometheus-alertmanager) echo prometheus-alertmanager ;;
        cc) echo gcc libc6-dev ;;
        systemd-analyze) echo systemd ;;
        chromium) echo chromium fonts-dejavu-core ;;
        *) echo "$1" ;;
    esac
}

missing() {
    for tool; do
        command -v "$tool" >/dev/null 2>&1 || printf '%s ' "$tool"
    done
}

packages_of() {
    for tool; do package_of "$tool"; done | tr ' ' '\n' | sort -u | tr '\n' ' '
}

# A program out of its place finds its libraries through a wrapper. The machine's own libc stays: loader and libc go together.
wrap() {
    mkdir -p "$tools/wrap"
    { echo '#!/bin/sh'; echo "T=$tools"; cat; } > "$tools/wrap/$1"
    chmod +x "$tools/wrap/$1"
}

unpack_all() {
    triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
    list=$(debs_needed "$@" | grep -v -x -e libc6 -e libc-bin -e libgcc-s1 -e libc6-dev)
    debs_unpack "$tools" $list
    libraries="\$T/usr/lib/$triplet:\$T/usr/lib/$triplet/pulseaudio:\$T/usr/lib/$triplet/systemd:\$T/usr/lib/systemd"
    for tool in $lacking; do
        case $tool in
            cc)
                debs_unpack "$tools/sysroot" libc6 libc6-dev linux-libc-dev libgcc-s1
                gcc=$(ls "$tools/usr/bin" | grep -x -E 'gcc-[0-9]+' | head -n 1)
                wrap cc <<END
LD_LIBRARY_PATH="$libraries" exec "\$T/usr/bin/$gcc" --sysroot="\$T/sysroot" -B"\$T/usr/bin/" "\$@"
END
                ;;
            chromium)
                sed -i "s#<dir>/usr/share/fonts</dir>#&<dir>$tools/usr/share/fonts</dir>#" "$tools/etc/fonts/fonts.conf"
                wrap chromium <<END
LD_LIBRARY_PATH="\$T/usr/lib/chromium:$libraries" FONTCONFIG_PATH="\$T/etc/fonts" exec "\$T/usr/lib/chromium/chromium" "\$@"
END
                ;;
            *)
                wrap "$tool" <<END
LD_LIBRARY_PATH="$libraries" exec "\$T/usr/bin/$tool" "\$@"
END
                ;;
        esac
    done
}

give_up() {
    echo "test-tools: missing for the tests: $*; install $(packages_of "$@")and try again" >&2
    exit 1
}

lacking=$(missing prometheus promtool prometheus-alertmanager)
if [ -n "$lacking" ]; then
    debs_have_apt || give_up $lacking
    echo "unpacking under .cache/tools: $(packages_of $lacking)" >&2
    debs_unpack "$tools" $(packages_of $lacking) || give_up $lacking
fi

# Debian's Alertmanager reads its templates from /usr/share, and from nowhere else: unpacked, it sees ours there.
if [ -x "$tools/usr/bin/prometheus-alertmanager" ]; then
    wrap prometheus-alertmanager <<'END'
[ -e /usr/share/prometheus/alertmanager/default.tmpl ] && exec "$T/usr/bin/prometheus-alertmanager" "$@"
exec unshare --map-root-user --mount sh -c \
    'mount --bind "$0/usr/share" /usr/share && exec "$0/usr/bin/prometheus-alertmanager" "$@"' "$T" "$@"
END
fi

lacking=$(missing make cc openssl systemd-analyze chromium)
if [ -n "$lacking" ]; then
    debs_have_apt || give_up $lacking
    if [ "$(id -u)" = 0 ]; then
        echo "installing: $(packages_of $lacking)" >&2
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq install -y --no-install-recommends $(packages_of $lacking) >/dev/null 2>&1 || {
            apt-get -qq update >&2
            apt-get -qq install -y --no-install-recommends $(packages_of $lacking) >/dev/null
        } || give_up $lacking
    else
        echo "unpacking under .cache/tools: $(packages_of $lacking)and what they need" >&2
        unpack_all $(packages_of $lacking) || give_up $lacking
    fi
fi

lacking=$(missing prometheus promtool prometheus-alertmanager make cc openssl systemd-analyze chromium)
if [ "$lacking" = "chromium " ] && [ -z "${CI:-}" ]; then
    # Ubuntu has Chromium as a snap only. The tests that want a browser will fail, and the others are worth having.
    echo "test-tools: no chromium here: the tests in a browser WILL FAIL until one is on the PATH" >&2
elif [ -n "$lacking" ]; then
    give_up $lacking
fi
echo "$PATH"
