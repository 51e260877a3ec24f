#!/bin/sh
# The Debian package: made, unpacked somewhere, and its program run from there.
#   package.sh SOURCE_DIRECTORY WORK_DIRECTORY
set -eu
source=$1
work=$2
rm -rf "$work"
mkdir -p "$work/root"
make -C "$source" --no-print-directory deb BUILD="$work/build"
package=$(ls "$work"/build-deb/embedd_*.deb)
dpkg-deb -x "$package" "$work/root"
fields=$(dpkg-deb -f "$package" Package Version Depends)
for wanted in libevent libsqlite3 libpq libhiredis libcurl libssl libyaml; do
    case $fields in
    *$wanted*) ;;
    *) echo "the package does not depend on $wanted: $fields"; exit 1 ;;
    esac
done
# The model is found beside the program.
out=$(cd / && env -i PATH="$PATH" HOME="$work" "$work/root/usr/bin/embedd" embed "hello world")
case $out in
*'"dimension":384'*) ;;
*) echo "unexpected: $out"; exit 1 ;;
esac
grep -q '^ExecStart=/usr/bin/embedd serve$' "$work/root/lib/systemd/system/embedd.service"
"$work/root/usr/bin/embedd" config check --config "$work/root/etc/embedd/embedd.yaml"
dpkg-deb --ctrl-tarfile "$package" | tar -xO ./conffiles | grep -q '^/etc/embedd/embedd.yaml$'
if command -v systemd-analyze >/dev/null; then
    # It looks for the programs where the unit says they are, which is not here.
    systemd-analyze verify "$work/root/lib/systemd/system/embedd.service" 2>&1 | grep -v "is not executable" || true
fi
rm -rf "$work"
