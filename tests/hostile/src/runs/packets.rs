//! Everything hostile that is to be refused, and the packets that leave all the same.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use postrider_domain::{AttemptReport, AttemptResult, ErrorKind};
use postrider_egress::Egress;
use postrider_guard::Policy;
use tokio::net::TcpListener;

use super::{World, client, end_of, send};
use crate::answers::answers;
use crate::behaviour::BEHAVIOURS;
use crate::name_server::Zone;
use crate::namespace::{PROXY, left};
use crate::ranges::ranges;
use crate::urls::{Rule, urls};

const AMPLE: Duration = Duration::from_secs(10);

/// For what ends by its deadline.
const SHORT: Duration = Duration::from_millis(500);

/// A name that is public when it is first looked up, and then the metadata server.
const REBINDING: &str = "1.rebinding.example";

/// The same, by way of a failure.
const FAILING_FIRST: &str = "1.failing-first.example";

/// Where the metadata server of most clouds is.
const METADATA: &str = "169.254.169.254";

/// Sends to all that is hostile, under the strict policy.
///
/// # Errors
/// Something was not refused as it should be, or a packet left.
pub async fn refused(folder: &Path) -> Result<String> {
    let proxied = proxy().await?;
    let world = World::begin(folder, zones()?).await?;
    let egress = client(Policy::default())?;
    let ranges = ranges();

    let urls = by_url(&world, &egress).await?;
    let names = by_answer(&egress).await?;
    rebinding(&egress).await?;
    redirects(&world, &egress).await?;

    let (denied, all) = left(&ranges)?;
    for (range, packets) in ranges.iter().zip(&denied) {
        ensure!(*packets == 0, "{packets} packets left for {range}");
    }
    ensure!(all > 0, "no packet was counted at all");
    let proxied = proxied.load(Ordering::SeqCst);
    ensure!(
        proxied == 0,
        "{proxied} connections to the proxy of the environment"
    );
    Ok(format!(
        "{urls} URLs refused by the URL, {names} names by the resolver; packets to {} denied \
         ranges: 0 of {all}; connections to a proxy: 0",
        ranges.len()
    ))
}

/// The other way round: a policy that allows everything makes packets leave for every range, so
/// those that did not leave would have been counted.
///
/// # Errors
/// A range was counted none for.
pub async fn allowed(folder: &Path) -> Result<String> {
    World::begin(folder, zones()?).await?;
    let everywhere = ["0.0.0.0/0", "::/0"].map(|range| range.parse());
    let egress = client(Policy {
        allow_ranges: everywhere.into_iter().collect::<Result<_, _>>()?,
        ..Policy::default()
    })?;
    let ranges = ranges();
    for range in &ranges {
        for address in [range.network(), range.broadcast()] {
            let host = match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            send(&egress, &format!("https://{host}/"), Bytes::new(), SHORT).await;
        }
    }
    let (counted, _) = left(&ranges)?;
    for (range, packets) in ranges.iter().zip(&counted) {
        ensure!(
            (*packets > 0) == reached(range.addr()),
            "{packets} packets left for {range}"
        );
    }
    Ok(format!(
        "packets to {} ranges when all are allowed: {counted:?}",
        ranges.len()
    ))
}

/// Whether Linux sends to such an address at all: not over TCP to many at once, and not on a link
/// when it is not said which.
fn reached(address: IpAddr) -> bool {
    let on_a_link = |v6: Ipv6Addr| v6.is_unicast_link_local();
    !address.is_multicast() && !matches!(address, IpAddr::V6(v6) if on_a_link(v6))
}

/// What the environment names; connections to it are counted.
async fn proxy() -> Result<Arc<AtomicUsize>> {
    let listener = TcpListener::bind(PROXY).await?;
    let counted = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&counted);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    Ok(counted)
}

fn zones() -> Result<HashMap<String, Zone>> {
    let rows = answers().into_iter();
    let zones = rows.filter_map(|row| Some((row.name, row.zone?)));
    let mut zones: HashMap<String, Zone> = zones.collect();
    let (public, private) = (vec!["93.184.0.1".parse()?], vec![METADATA.parse()?]);
    zones.insert(FAILING_FIRST.into(), Zone::FailsAndThen(private.clone()));
    zones.insert(REBINDING.into(), Zone::Turns(public, private));
    Ok(zones)
}

/// Each row ends with the kind and the words of its rule, before anything is asked or opened.
async fn by_url(world: &World, egress: &Egress) -> Result<usize> {
    let rows = urls();
    for (url, rule) in &rows {
        let report = send(egress, url, Bytes::from_static(b"{}"), AMPLE).await;
        let refusal = Policy::default()
            .check_url(url)
            .err()
            .context("a refusal")?;
        let kind = match rule {
            Rule::Denied(_) | Rule::InnerName => ErrorKind::DeniedUrl,
            _ => ErrorKind::BadUrl,
        };
        expect(url, &report, kind)?;
        let said: String = refusal.to_string().chars().take(300).collect();
        ensure!(
            end_of(&report).contains(&said),
            "{url:?}: {said:?} expected, but {}",
            end_of(&report)
        );
    }
    ensure!(world.names.asked() == 0, "a name server was asked");
    Ok(rows.len())
}

/// Each row ends in the resolver, with a kind of its own.
async fn by_answer(egress: &Egress) -> Result<usize> {
    let rows = answers();
    for row in &rows {
        let timeout = if row.kind == ErrorKind::TimeoutDns {
            SHORT
        } else {
            AMPLE
        };
        let url = format!("https://{}/", row.name);
        let report = send(egress, &url, Bytes::from_static(b"{}"), timeout).await;
        expect(&row.name, &report, row.kind)?;
    }
    let (denied, _) = left(&ranges())?;
    ensure!(
        denied.iter().all(|packets| *packets == 0),
        "packets left: {denied:?}"
    );
    Ok(rows.len())
}

/// A name that was fine, or failed, is checked again when it is looked up again.
async fn rebinding(egress: &Egress) -> Result<()> {
    for (name, first) in [(REBINDING, "tls_wrong_name"), (FAILING_FIRST, "dns")] {
        let url = format!("https://{name}/");
        let begin = Instant::now();
        let mut seen = 0;
        loop {
            let report = send(egress, &url, Bytes::from_static(b"{}"), AMPLE).await;
            let end = end_of(&report);
            if end.starts_with("denied_answer") {
                break;
            }
            ensure!(end.starts_with(first), "{name}: {end}");
            seen += 1;
            // What was remembered is good for a second.
            ensure!(begin.elapsed() < AMPLE, "{name} is never looked up again");
        }
        ensure!(seen > 0, "{name} was denied at once");
    }
    Ok(())
}

/// A redirect to the metadata server is an answer like any other.
async fn redirects(world: &World, egress: &Egress) -> Result<()> {
    let redirecting = |name: &str| name.starts_with("redirects-");
    let redirecting: Vec<_> = BEHAVIOURS.iter().filter(|b| redirecting(b.name)).collect();
    ensure!(redirecting.len() == 5, "301, 302, 303, 307, 308");
    for behaviour in redirecting {
        let url = format!("https://1.{}.example/", behaviour.name);
        let report = send(egress, &url, Bytes::from_static(b"{}"), AMPLE).await;
        let AttemptResult::Response(response) = &report.result else {
            anyhow::bail!("{url}: {}", end_of(&report));
        };
        ensure!(
            (300..400).contains(&response.status),
            "{url}: {}",
            response.status
        );
        let requests = world.receivers.seen(behaviour).requests;
        ensure!(requests == 1, "{url}: {requests} requests");
    }
    Ok(())
}

fn expect(what: &str, report: &AttemptReport, kind: ErrorKind) -> Result<()> {
    let found = match &report.result {
        AttemptResult::Error(error) => Some((error.kind, error.ambiguous)),
        AttemptResult::Response(_) => None,
    };
    let expected = Some((kind, false));
    ensure!(
        found == expected,
        "{what:?}: {expected:?} expected, but {}",
        end_of(report)
    );
    Ok(())
}
