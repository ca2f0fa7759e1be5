# shellcheck shell=bash
# Nothing that runs in a container may reach past this machine: a packet to a service address that no proxy has claimed
# yet, for one, would leave by the default route. REJECT, not DROP: who asks for something outside is told at once.
confine() {  # before the engine starts, so that no container that it starts again runs without the rules
    iptables -w -N DOCKER-USER 2>/dev/null || true  # Docker's place for such rules; it keeps a chain that is there
    local rule
    while read -ra rule; do
        "${rule[0]}" -w -C "${rule[@]:1}" 2>/dev/null || "${rule[0]}" -w -I "${rule[@]:1}"
    done < <(rules)
}
unconfine() {
    local rule
    while read -ra rule; do "${rule[0]}" -w -D "${rule[@]:1}" 2>/dev/null || true; done < <(rules)
}
rules() {
    devices -4 | sed 's/.*/iptables DOCKER-USER -o & -j REJECT/'
    devices -6 | sed 's/.*/ip6tables FORWARD -o & -j REJECT/'  # Debian's Docker has no chain of its own in IPv6
}
devices() { ip "$1" -o route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | sort -u; }
