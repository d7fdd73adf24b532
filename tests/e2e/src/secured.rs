//! A broker that lets in over TLS who has credentials, and to what its ACLs allow.
//!
//! Decides how its account, its permissions and its certificate are given and taken. Clients of
//! tests come in by the other listener, where all is allowed, so that nothing that is taken from
//! Postrider is taken from them. Leaves what must hold then to the tests.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};

use postrider_test_support::Broker;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use tempfile::TempDir;

use crate::{free_port, text};

/// The account that Postrider has.
const USER: &str = "postrider";
/// The password that Postrider knows.
const PASSWORD: &str = "right";
/// Begins the names of all that installations of tests have on a broker.
const PREFIX: &str = "e2e-";
/// Kafka's tool for accounts and its tool for ACLs.
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const ACLS: &str = "org.apache.kafka.tools.AclCommand";

/// Files in its folder: whom Postrider trusts, and key and certificate of the broker.
const AUTHORITY: &str = "authority.pem";
const CERTIFICATE: &str = "broker.pem";
/// The years that a good certificate ends with, and one that is not.
const GOOD_UNTIL: i32 = 4000;
const EXPIRED: i32 = 2020;

/// A broker of the caller's own with a second listener.
pub struct SecuredBroker {
    broker: Broker,
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    address: String,
}

impl SecuredBroker {
    /// With a good certificate, and the account with the permissions that the operator's guide
    /// names, on whatever installations of tests have.
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder for certificates");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("a certificate");
        fs::write(folder.path().join(AUTHORITY), authority.pem()).expect("the folder is ours");
        let issuer = Issuer::new(params, key);
        certify(&issuer, &folder, GOOD_UNTIL);
        let certificate = folder.path().join(CERTIFICATE);
        let address = format!("127.0.0.1:{}", free_port());
        let listeners = format!(
            "PLAINTEXT://@host@:@port@,CONTROLLER://@host@:@controller_port@,SECURED://{address}"
        );
        let secured = |name: &str| format!("listener.name.secured.{name}");
        let settings = [
            ("listeners".to_owned(), &*listeners),
            ("advertised.listeners".to_owned(), &listeners),
            (
                "listener.security.protocol.map".to_owned(),
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL",
            ),
            (
                "authorizer.class.name".to_owned(),
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ),
            ("super.users".to_owned(), "User:ANONYMOUS"),
            (secured("ssl.keystore.type"), "PEM"),
            (secured("ssl.keystore.location"), text(&certificate)),
            (secured("sasl.enabled.mechanisms"), "SCRAM-SHA-256"),
            (
                secured("scram-sha-256.sasl.jaas.config"),
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            ),
            // credentials are good for so long; then who is connected has to show them again
            (secured("scram-sha-256.connections.max.reauth.ms"), "3000"),
            // longer than anything is taken away here: a worker keeps its slices meanwhile
            ("group.consumer.session.timeout.ms".to_owned(), "45000"),
        ];
        let settings = settings.each_ref().map(|(name, value)| (&**name, *value));
        let secured = Self {
            broker: Broker::own_with(&settings),
            folder,
            issuer,
            address,
        };
        secured.open_account();
        secured
    }

    /// Where the listener with TLS is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where all is allowed.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// How Postrider gets in.
    pub fn properties(&self) -> [(&'static str, String); 5] {
        let authority = self.folder.path().join(AUTHORITY);
        [
            ("security.protocol", "SASL_SSL".to_owned()),
            ("sasl.mechanism", "SCRAM-SHA-256".to_owned()),
            ("sasl.username", USER.to_owned()),
            ("sasl.password", PASSWORD.to_owned()),
            ("ssl.ca.location", text(&authority).to_owned()),
        ]
    }

    /// The account's password is another one.
    pub fn change_password(&self) {
        finish(self.set_password("changed"));
    }

    /// The account's password is what Postrider knows, again.
    pub fn restore_password(&self) {
        finish(self.set_password(PASSWORD));
    }

    /// A crashed member of this group is replaced after so many ms.
    pub fn shorten_session(&self, group: &str, ms: u32) {
        let session = format!("consumer.session.timeout.ms={ms}");
        finish(self.configure("groups", group, &session));
    }

    /// Takes the permission to write to these topics.
    pub fn forbid_writing(&self, topics: &[String]) {
        finish(self.denial("--add", topics));
    }

    /// Gives it back.
    pub fn permit_writing(&self, topics: &[String]) {
        finish(self.denial("--remove", topics));
    }

    /// Starts it anew with a certificate that has expired.
    pub fn start_again_expired(&mut self) {
        self.start_again(EXPIRED);
    }

    /// Starts it anew with a certificate that is good.
    pub fn start_again_good(&mut self) {
        self.start_again(GOOD_UNTIL);
    }

    fn start_again(&mut self, year: i32) {
        self.broker.stop();
        certify(&self.issuer, &self.folder, year);
        self.broker.start_again();
    }

    fn open_account(&self) {
        let topics = ["Read", "Write", "Describe", "Create"];
        let groups = ["Read", "DescribeConfigs"];
        let tools = [
            self.set_password(PASSWORD),
            self.allow("--topic", &topics),
            self.allow("--group", &groups),
        ];
        tools.into_iter().for_each(finish);
    }

    fn set_password(&self, password: &str) -> Child {
        let credentials = format!("SCRAM-SHA-256=[iterations=4096,password={password}]");
        self.configure("users", USER, &credentials)
    }

    fn configure(&self, kind: &str, name: &str, config: &str) -> Child {
        let entity = ["--entity-type", kind, "--entity-name", name];
        self.run(
            CONFIGS,
            &[&entity[..], &["--alter", "--add-config", config]].concat(),
        )
    }

    fn allow(&self, what: &str, operations: &[&str]) -> Child {
        let user = format!("User:{USER}");
        let first = ["--add", "--allow-principal", &user, what, PREFIX];
        let of_prefix = ["--resource-pattern-type", "prefixed"];
        let operations = operations.iter().flat_map(|name| ["--operation", name]);
        let arguments = first.into_iter().chain(of_prefix).chain(operations);
        self.run(ACLS, &arguments.collect::<Vec<_>>())
    }

    fn denial(&self, change: &str, topics: &[String]) -> Child {
        let user = format!("User:{USER}");
        let first = [change, "--deny-principal", &user, "--operation", "Write"];
        // `--remove` asks whether it may
        let force = (change == "--remove").then_some("--force");
        let topics = topics.iter().flat_map(|name| ["--topic", name]);
        let arguments = first.into_iter().chain(force).chain(topics);
        self.run(ACLS, &arguments.collect::<Vec<_>>())
    }

    fn run(&self, class: &str, arguments: &[&str]) -> Child {
        let mut command = self.broker.tool(class);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        command.spawn().expect("setpriv is part of util-linux")
    }
}

fn finish(tool: Child) {
    let output = tool.wait_with_output().expect("it is our child");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {said}", output.status);
}

/// A key and a certificate for 127.0.0.1, good from the year 2000 to that year.
fn certify(issuer: &Issuer<'_, KeyPair>, folder: &TempDir, year: i32) {
    let mut params = CertificateParams::default();
    // under its authority's name it would count as signed by itself
    params.distinguished_name.push(DnType::CommonName, "broker");
    params.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    let pem = key.serialize_pem() + &certificate.pem();
    fs::write(folder.path().join(CERTIFICATE), pem).expect("the folder is ours");
}
