# A private apt beside the host's: its own sources, lists and (empty) package status, the host's keys.
# `private_apt SUITE...` sets it up, for one recipe and its $WORK; `fetch PACKAGE...` downloads into the working folder.
private_apt() {
    mkdir -p "$WORK/apt/lists/partial" "$WORK/apt/archives/partial" "$WORK/apt/none" "$WORK/apt/etc"
    : >"$WORK/apt/status"
    for suite in "$@"; do echo "deb $MIRROR $suite main"; done >"$WORK/apt/etc/sources.list"
    cat >"$WORK/apt/conf" <<CONF
Dir::State "$WORK/apt";
Dir::State::status "$WORK/apt/status";
Dir::Cache "$WORK/apt";
Dir::Etc::sourcelist "$WORK/apt/etc/sources.list";
Dir::Etc::sourceparts "$WORK/apt/none";
Dir::Etc::preferencesparts "$WORK/apt/none";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "3";
CONF
    APT_CONFIG="$WORK/apt/conf" apt-get -q update
}

fetch() {
    APT_CONFIG="$WORK/apt/conf" apt-get -q download "$@"
}
