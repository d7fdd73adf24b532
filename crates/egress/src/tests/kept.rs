//! Which connections are kept, and for whom.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::identity::IdentityId;
use crate::pool::{AGE_MAX, CONNECTIONS_KEPT_MAX, IDLE_TIMEOUT, KEPT_PER_HOST_MAX};

/// A receiver under many names, and how many connections it saw.
async fn many_names(names_count: usize) -> (Egress, Vec<String>, Arc<AtomicUsize>) {
    // Both sides of each connection, and what other tests have open.
    let files = u64::try_from(2 * names_count + 2_000).expect("a number");
    let limit = rlimit::increase_nofile_limit(files).expect("a limit");
    assert!(limit >= files, "{limit} open files are too few");
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&connections);
    let address = listen(move |mut stream| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move { while answer(&mut stream, OK).await {} }
    })
    .await;
    let names = Names::of_system().expect("name servers");
    let urls = Vec::from_iter((0..names_count).map(|n| {
        let name = format!("host{n}.example");
        names.remember_always(&name, address.ip());
        format!("http://{name}:{}/", address.port())
    }));
    let policy = Arc::new(Policy {
        ports: vec![address.port()],
        ..dev_policy()
    });
    let resolver = GuardedResolver::new(names, Arc::clone(&policy));
    let connector = Connector::new(Arc::clone(&policy), resolver, None, Sources::default());
    let identities = Identities::of_system().expect("certificates");
    let agent = HeaderValue::from_static("t");
    let egress = Egress::assembled(policy, agent, connector, identities);
    (egress, urls, connections)
}

#[tokio::test]
async fn a_thousand_hosts_under_steady_load_keep_their_connections() {
    let (egress, urls, connections) = many_names(1_000).await;
    for _ in 0..5 {
        for url in &urls {
            let report = egress.send(Timestamp::default(), request(url, AMPLE)).await;
            assert_eq!(response(report).status, 200);
        }
    }
    assert_eq!(
        connections.load(Ordering::SeqCst),
        urls.len(),
        "of 5000 requests"
    );
    assert!(egress.0.pool.len() <= CONNECTIONS_KEPT_MAX);
}

#[tokio::test]
async fn what_is_kept_in_all_is_bounded_and_the_least_lately_used_goes() {
    let (egress, urls, connections) = many_names(CONNECTIONS_KEPT_MAX + 50).await;
    for url in urls
        .iter()
        .chain(&urls[urls.len() - 10..])
        .chain(&urls[..1])
    {
        let report = egress.send(Timestamp::default(), request(url, AMPLE)).await;
        assert_eq!(response(report).status, 200);
    }
    assert_eq!(egress.0.pool.len(), CONNECTIONS_KEPT_MAX);
    // The last ones were used again, the first one was gone.
    assert_eq!(connections.load(Ordering::SeqCst), urls.len() + 1);
}

#[tokio::test]
async fn what_is_kept_of_one_host_is_bounded() {
    let (egress, urls, connections) = many_names(1).await;
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..4 * KEPT_PER_HOST_MAX {
        let (egress, request) = (egress.clone(), request(&urls[0], AMPLE));
        sending.spawn(async move { egress.send(Timestamp::default(), request).await });
    }
    sending.join_all().await;
    assert!(connections.load(Ordering::SeqCst) > KEPT_PER_HOST_MAX);
    assert_eq!(egress.0.pool.len(), KEPT_PER_HOST_MAX);
}

#[tokio::test]
async fn what_is_not_used_or_old_is_closed() {
    let (tell, mut told) = mpsc::channel(8);
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            while answer(&mut stream, OK).await {}
            tell.send(()).await.expect("heard");
        }
    })
    .await;
    let egress = egress(dev_policy());
    let url = format!("http://{address}/");
    let pool = &egress.0.pool;
    let key = Key::new(IdentityId::SYSTEM, &origin(&url));
    for later in [IDLE_TIMEOUT, AGE_MAX] {
        let report = egress
            .send(Timestamp::default(), request(&url, AMPLE))
            .await;
        response(report);
        assert!(pool.reap(Instant::now()), "it is kept");
        if later == AGE_MAX {
            assert!(pool.take(&key, Instant::now() + later).is_none());
        } else {
            assert!(!pool.reap(Instant::now() + later), "nothing is left");
        }
        told.recv().await.expect("the connection was closed");
        assert_eq!(pool.len(), 0);
    }
}

#[tokio::test]
async fn a_connection_is_for_the_identity_and_host_it_was_made_for() {
    let (egress, urls, _) = many_names(2).await;
    let pool = &egress.0.pool;
    response(
        egress
            .send(Timestamp::default(), request(&urls[0], AMPLE))
            .await,
    );
    let key = |identity, url: &str| Key::new(identity, &origin(url));
    let ca = Some("another".into());
    let other = IdentityId::of(&Auth { ca, ..Auth::NONE });
    let now = Instant::now();
    assert!(pool.take(&key(other, &urls[0]), now).is_none());
    assert!(pool.take(&key(IdentityId::SYSTEM, &urls[1]), now).is_none());
    assert!(pool.take(&key(IdentityId::SYSTEM, &urls[0]), now).is_some());
}

fn origin(url: &str) -> Arc<str> {
    url.strip_suffix('/').expect("a URL of a root").into()
}
