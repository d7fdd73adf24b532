//! A network of our own, in which every address there is leads back to us.
//!
//! The program starts itself again in a network and mount namespace of Linux. There the whole of
//! IPv4 and IPv6 is local (`ip route add local default dev lo`), so that a packet to any address
//! arrives, also at a denied one; `/etc/resolv.conf` names our name server, `/etc/hosts` an inner
//! address, the trusted authority is ours, and the environment names a proxy. So it is the client
//! as it is released, under the strict policy, that is put to the test, with nothing replaced in it.
//!
//! Needs no root where unprivileged user namespaces are allowed, else root.

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use postrider_test_support::unshare_arguments;
use serde_json::Value;

use crate::authority::Authority;

/// Where names are asked for.
pub const NAME_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)), 53);

/// The proxy that the environment names.
pub const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 114, 9)), 3128);

/// A name that `/etc/hosts` leads to a denied address.
pub const NAME_IN_HOSTS: &str = "in-hosts.example";

const HOSTS: &str = "127.0.0.1 localhost localhost.localdomain\n10.9.8.7 in-hosts.example\n";

const PROXY_VARIABLES: [&str; 6] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
];

/// Runs this program once more, with these arguments and `--inside FOLDER`, in namespaces of its
/// own; whether it ended well.
///
/// # Errors
/// Namespaces are not permitted here, or a tool is missing.
pub fn enter(arguments: impl Iterator<Item = OsString>) -> Result<bool> {
    let unshare = unshare_arguments().map_err(anyhow::Error::msg)?;
    let folder = tempfile::tempdir()?;
    let authority = Authority::new()?;
    authority.write(folder.path())?;
    let resolv = format!("nameserver {}\n", NAME_SERVER.ip());
    std::fs::write(folder.path().join("resolv.conf"), resolv)?;
    std::fs::write(folder.path().join("hosts"), HOSTS)?;
    let mut command = Command::new("unshare");
    command.args(unshare).arg("--");
    command.arg(std::env::current_exe()?).args(arguments);
    command.arg("--inside").arg(folder.path());
    command.env("SSL_CERT_FILE", Authority::file(folder.path()));
    command
        .env_remove("SSL_CERT_DIR")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    for variable in PROXY_VARIABLES {
        command.env(variable, format!("http://{PROXY}"));
    }
    Ok(command.status()?.success())
}

/// Makes the network: all addresses are ours, and what goes to `denied` ranges is counted.
///
/// # Errors
/// A tool is missing or fails; its message is in the error.
pub fn set_up(folder: &Path, denied: &[IpNet]) -> Result<()> {
    for file in ["resolv.conf", "hosts"] {
        let (ours, theirs) = (folder.join(file), Path::new("/etc").join(file));
        let mut mount = Command::new("mount");
        mount.arg("--bind").arg(ours).arg(theirs);
        run(&mut mount, "")?;
    }
    for line in [
        "link set lo up",
        "route add local default dev lo",
        // Else ::1 would be the source of everything, and answers to it would be counted.
        "-6 addr add 2a00:1450::1/128 dev lo nodad",
        "-6 route add local default dev lo src 2a00:1450::1",
    ] {
        run(Command::new("ip").args(line.split(' ')), "")?;
    }
    // What nobody reads is to stay with whoever sends it.
    for (direction, buffer) in [("rmem", "4096 32768 65536"), ("wmem", "4096 16384 65536")] {
        std::fs::write(format!("/proc/sys/net/ipv4/tcp_{direction}"), buffer)?;
    }
    run(Command::new("nft").args(["-f", "-"]), &counters(denied))
}

fn counters(denied: &[IpNet]) -> String {
    let mut table = String::from("table inet hostile {\n");
    for number in 0..denied.len() {
        table += &format!("  counter range{number} {{ }}\n");
    }
    table += "  counter everything { }\n  chain out {\n    type filter hook output priority 0; policy accept;\n";
    table += "    counter name \"everything\"\n";
    for (number, range) in denied.iter().enumerate() {
        let family = if range.addr().is_ipv4() { "ip" } else { "ip6" };
        table += &format!("    {family} daddr {range} counter name \"range{number}\"\n");
    }
    table + "  }\n}\n"
}

/// Packets that left: for each of the ranges, and all.
///
/// # Errors
/// `nft` fails, or says something that is not understood.
pub fn left(denied: &[IpNet]) -> Result<(Vec<u64>, u64)> {
    let listed = Command::new("nft")
        .args(["-j", "list", "counters"])
        .output()?;
    let listed: Value = serde_json::from_slice(&listed.stdout).context("nft prints JSON")?;
    let listed = listed["nftables"]
        .as_array()
        .context("nft lists counters")?;
    let packets = |name: &str| {
        let mut counters = listed.iter().map(|entry| &entry["counter"]);
        let counter = counters.find(|counter| counter["name"] == name);
        counter
            .and_then(|counter| counter["packets"].as_u64())
            .context("a counter is missing")
    };
    let ranges = (0..denied.len()).map(|number| packets(&format!("range{number}")));
    Ok((ranges.collect::<Result<_>>()?, packets("everything")?))
}

fn run(command: &mut Command, input: &str) -> Result<()> {
    let what = format!("{command:?}");
    let missing =
        || format!("{what} cannot be started; Debian has it in iproute2, nftables, mount");
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(missing)?;
    child
        .stdin
        .take()
        .context("a pipe")?
        .write_all(input.as_bytes())?;
    let ended = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{what}: {said}");
    Ok(())
}
