//! The rights of NATS' users: those of `charts/hookwright/files/nats.conf`, asked of a real server.

use hookwright_e2e::{Nats, NatsOptions, Scratch, Tools, User, workspace};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A user, and what it publishes.
struct Rights {
    user: User,
    /// What it needs.
    needs: &'static [&'static str],
    /// What it has to be refused.
    refused: &'static [&'static str],
}

const OPERATOR: Rights = Rights {
    user: User::Operator,
    needs: &[
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.shop_orders",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.CREATE.shop_orders",
        "$JS.API.STREAM.UPDATE.HOOKWRIGHT_PARKED",
        "$JS.API.STREAM.DELETE.shop_orders",
        "$JS.API.STREAM.MSG.GET.KV_HOOKWRIGHT_CONFIG",
        "$JS.API.CONSUMER.INFO.shop_orders.hookwright-p-1",
        "$JS.API.CONSUMER.CREATE.shop_orders.hookwright-p-1",
        "$JS.API.CONSUMER.CREATE.HOOKWRIGHT_PARKED.due.hookwright.parked.due.any.>",
        "$JS.API.CONSUMER.DELETE.shop_orders.hookwright-p-1",
        "$JS.API.CONSUMER.PAUSE.HOOKWRIGHT_PARKED.due",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_LEASES",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_HEALTH",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_STATE",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_POSITIONS",
        "$JS.FC.KV_HOOKWRIGHT_LEASES.c.1",
        "$JS.ACK.shop_orders.hookwright-p-1.1.17.1.0.0",
        "hookwright.dead.p.p-1",
        "$KV.HOOKWRIGHT_CONFIG.subscription.p-1.s-1",
        "$KV.HOOKWRIGHT_STATE.checkpoint.p-1",
        "$KV.HOOKWRIGHT_HEALTH.s-1.base",
        "$KV.HOOKWRIGHT_POSITIONS.s-1",
        "$KV.HOOKWRIGHT_CURSORS.s-1",
        "hookwright.parked.due.any.s-1.test",
        "hookwright.parked.at.s-1.d-1",
    ],
    refused: &[
        "$JS.API.STREAM.DELETE.HOOKWRIGHT_PARKED",
        "$JS.API.STREAM.DELETE.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.STREAM.DELETE.KV_HOOKWRIGHT_CONFIG",
        "$JS.API.STREAM.DELETE.KV_HOOKWRIGHT_STATE",
        "$JS.API.STREAM.DELETE.KV_HOOKWRIGHT_HEALTH",
        "$JS.API.STREAM.DELETE.KV_HOOKWRIGHT_LEASES",
        "$JS.API.STREAM.DELETE.KV_HOOKWRIGHT_POSITIONS",
        "$JS.API.STREAM.DELETE.KV_HOOKWRIGHT_CURSORS",
        "$JS.API.STREAM.PURGE.shop_orders",
        "$JS.API.STREAM.PURGE.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.STREAM.MSG.DELETE.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.STREAM.MSG.GET.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.DIRECT.GET.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.CONSUMER.CREATE.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.CONSUMER.CREATE.HOOKWRIGHT_DEAD_LETTERS.c",
        "$JS.API.CONSUMER.DURABLE.CREATE.HOOKWRIGHT_DEAD_LETTERS.c",
        "$JS.API.CONSUMER.CREATE.shop_orders",
        "$JS.API.CONSUMER.MSG.NEXT.shop_orders.hookwright-p-1",
        "$JS.API.STREAM.SNAPSHOT.KV_HOOKWRIGHT_CONFIG",
        "$JS.API.STREAM.RESTORE.shop_orders",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.PEER.REMOVE.shop_orders",
        "$JS.API.STREAM.LEADER.STEPDOWN.shop_orders",
        "$JS.API.ACCOUNT.PURGE.HOOKWRIGHT",
        "$JS.ACK.shop_orders.c.1.17.3.1700000000000000000.5",
        "$KV.HOOKWRIGHT_LEASES.slot.1",
        "$KV.others.key",
        "hookwright.dead.s.s-1",
        "hookwright.parked.due.any.s-1",
        "shop.order.created",
        "_INBOX_dispatcher.x.y",
        "_INBOX_app.x.y",
        "_INBOX_reader.x.y",
        "$SYS.REQ.SERVER.PING",
    ],
};

const DISPATCHER: Rights = Rights {
    user: User::Dispatcher,
    needs: &[
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.shop_orders",
        "$JS.API.STREAM.MSG.GET.shop_orders",
        "$JS.API.DIRECT.GET.shop_orders",
        "$JS.API.STREAM.CREATE.KV_HOOKWRIGHT_LEASES",
        "$JS.API.CONSUMER.INFO.shop_orders.hookwright-p-1",
        "$JS.API.CONSUMER.MSG.NEXT.HOOKWRIGHT_PARKED.due",
        "$JS.ACK.shop_orders.hookwright-p-1.1.17.3.1700000000000000000.5",
        "$JS.FC.KV_HOOKWRIGHT_CONFIG.c.1",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_CONFIG",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_CONFIG.c.$KV.HOOKWRIGHT_CONFIG.>",
        "$JS.API.CONSUMER.DELETE.KV_HOOKWRIGHT_CONFIG.c",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_STATE",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_STATE.c",
        "$JS.API.CONSUMER.DELETE.KV_HOOKWRIGHT_STATE.c",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_POSITIONS",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_POSITIONS.c",
        "$JS.API.CONSUMER.DELETE.KV_HOOKWRIGHT_POSITIONS.c",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_LEASES",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_LEASES.c",
        "$JS.API.CONSUMER.DELETE.KV_HOOKWRIGHT_LEASES.c",
        "hookwright.parked.at.s-1.d-1",
        "hookwright.parked.at.s-1.test.d-1",
        "hookwright.dead.s.s-1",
        "hookwright.dead.p.p-1",
        "$KV.HOOKWRIGHT_HEALTH.s-1.i-1",
        "$KV.HOOKWRIGHT_LEASES.i-1",
        "$KV.HOOKWRIGHT_LEASES.slot.1",
        "$KV.HOOKWRIGHT_POSITIONS.s-1",
        "$KV.HOOKWRIGHT_CURSORS.s-1",
        "$KV.HOOKWRIGHT_STATE.disabled.s-1",
        "$KV.HOOKWRIGHT_STATE.violations.p-1",
        "$KV.HOOKWRIGHT_STATE.test.s-1",
        "$KV.HOOKWRIGHT_STATE.dead.shop",
    ],
    refused: &[
        "$JS.API.STREAM.CREATE.shop_orders",
        "$JS.API.STREAM.CREATE.KV_HOOKWRIGHT_CONFIG",
        "$JS.API.STREAM.UPDATE.shop_orders",
        "$JS.API.STREAM.UPDATE.KV_HOOKWRIGHT_LEASES",
        "$JS.API.STREAM.DELETE.shop_orders",
        "$JS.API.STREAM.DELETE.KV_HOOKWRIGHT_LEASES",
        "$JS.API.STREAM.PURGE.HOOKWRIGHT_PARKED",
        "$JS.API.STREAM.MSG.DELETE.HOOKWRIGHT_PARKED",
        "$JS.API.STREAM.MSG.GET.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.DIRECT.GET.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.DIRECT.GET.HOOKWRIGHT_DEAD_LETTERS.hookwright.dead.s.s-1",
        "$JS.API.CONSUMER.MSG.NEXT.HOOKWRIGHT_DEAD_LETTERS.c",
        "$JS.API.CONSUMER.CREATE.HOOKWRIGHT_DEAD_LETTERS.c",
        "$JS.API.CONSUMER.CREATE.HOOKWRIGHT_PARKED.c",
        "$JS.API.CONSUMER.CREATE.shop_orders",
        "$JS.API.CONSUMER.CREATE.shop_orders.c",
        "$JS.API.CONSUMER.DURABLE.CREATE.shop_orders.c",
        "$JS.API.CONSUMER.DELETE.shop_orders.hookwright-p-1",
        "$JS.API.CONSUMER.DELETE.HOOKWRIGHT_PARKED.due",
        "$JS.API.CONSUMER.PAUSE.HOOKWRIGHT_PARKED.due",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.NAMES",
        "$KV.HOOKWRIGHT_CONFIG.subscription.p-1.s-1",
        "$KV.HOOKWRIGHT_CONFIG.installation",
        "$KV.HOOKWRIGHT_CONFIG.deleted.s-1",
        "$KV.HOOKWRIGHT_STATE.checkpoint.p-1",
        "$KV.HOOKWRIGHT_STATE.grants.p-1",
        "hookwright.parked.due.any.s-1",
        "hookwright.parked.due.any.s-1.test",
        "shop.order.created",
        "_INBOX_operator.x.y",
        "_INBOX_app.x.y",
        "_INBOX_reader.x.y",
        "$SYS.REQ.SERVER.PING",
    ],
};

const APP: Rights = Rights {
    user: User::App,
    needs: &["shop.order.created"],
    refused: &[
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.mine",
        "$JS.API.STREAM.MSG.GET.KV_HOOKWRIGHT_CONFIG",
        "$JS.API.DIRECT.GET.KV_HOOKWRIGHT_CONFIG",
        "$JS.API.CONSUMER.CREATE.KV_HOOKWRIGHT_CONFIG",
        "$JS.ACK.shop_orders.hookwright-p-1.1.17.3.1700000000000000000.5",
        "$KV.HOOKWRIGHT_CONFIG.subscription.p-1.s-1",
        "$KV.HOOKWRIGHT_LEASES.i-1",
        "hookwright.parked.at.s-1.d-1",
        "hookwright.parked.due.any.s-1",
        "hookwright.dead.s.s-1",
        "_INBOX_operator.x.y",
        "_INBOX_dispatcher.x.y",
        "_INBOX_reader.x.y",
        "$SYS.REQ.SERVER.PING",
        "$O.others.C.x",
    ],
};

const READER: Rights = Rights {
    user: User::Reader,
    needs: &[
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.STREAM.INFO.HOOKWRIGHT_PARKED",
        "$JS.API.STREAM.MSG.GET.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.STREAM.MSG.GET.HOOKWRIGHT_PARKED",
        "$JS.API.DIRECT.GET.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.DIRECT.GET.HOOKWRIGHT_DEAD_LETTERS.hookwright.dead.s.s-1",
        "$JS.API.DIRECT.GET.HOOKWRIGHT_PARKED",
        "$JS.API.DIRECT.GET.HOOKWRIGHT_PARKED.hookwright.parked.at.s-1.d-1",
    ],
    refused: &[
        "$JS.API.CONSUMER.CREATE.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.CONSUMER.CREATE.HOOKWRIGHT_DEAD_LETTERS.c",
        "$JS.API.CONSUMER.MSG.NEXT.HOOKWRIGHT_PARKED.due",
        "$JS.API.CONSUMER.DELETE.HOOKWRIGHT_PARKED.due",
        "$JS.API.STREAM.CREATE.mine",
        "$JS.API.STREAM.UPDATE.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.STREAM.DELETE.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.STREAM.PURGE.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.STREAM.MSG.DELETE.HOOKWRIGHT_DEAD_LETTERS",
        "$JS.API.STREAM.INFO.shop_orders",
        "$JS.API.STREAM.MSG.GET.KV_HOOKWRIGHT_CONFIG",
        "$JS.API.DIRECT.GET.KV_HOOKWRIGHT_CONFIG",
        "$JS.ACK.HOOKWRIGHT_PARKED.due.1.17.3.1700000000000000000.5",
        "$KV.HOOKWRIGHT_CONFIG.subscription.p-1.s-1",
        "hookwright.dead.s.s-1",
        "hookwright.parked.at.s-1.d-1",
        "shop.order.created",
        "_INBOX_operator.x.y",
        "_INBOX_dispatcher.x.y",
        "_INBOX_app.x.y",
    ],
};

const ALL: [Rights; 4] = [OPERATOR, DISPATCHER, APP, READER];

/// What nobody may subscribe to, beside the inboxes of others.
const SECRET: [&str; 5] = [">", "shop.>", "$KV.>", "hookwright.>", "$JS.ACK.>"];

#[tokio::test]
async fn each_user_may_publish_what_it_needs_and_nothing_else() {
    let (tools, scratch) = (Tools::locate().await.unwrap(), Scratch::new().unwrap());
    let nats = Nats::start(&tools, scratch.path(), NatsOptions { servers: 1, ..NatsOptions::default() }).await.unwrap();
    let mut wrong = Vec::new();
    // Also of an installation with a prefix.
    for prefix in ["", "eu"] {
        for Rights { user, needs, refused } in ALL {
            let mut connection = Connection::open(&nats, user, &named(user.name(), prefix)).await;
            for (subjects, want) in [(needs, true), (refused, false)] {
                for subject in subjects.iter().map(|subject| moved(subject, prefix)) {
                    if connection.may_publish(&subject).await != want {
                        wrong.push(format!("{prefix} {user:?} is to be allowed {subject}: {want}"));
                    }
                }
            }
            let others = ALL.map(|rights| rights.user.inbox_prefix()).map(|inbox| format!("{inbox}.x.*"));
            for subject in SECRET.iter().map(|subject| (*subject).to_owned()).chain(others) {
                let want = subject.starts_with(user.inbox_prefix());
                if connection.may_subscribe(&moved(&subject, prefix)).await != want {
                    wrong.push(format!("{prefix} {user:?} is to hear {subject}: {want}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// With each line less, the first test would fail.
#[test]
fn each_permission_is_needed() {
    let text = std::fs::read_to_string(workspace().join("charts/hookwright/files/nats.conf")).unwrap();
    let mut idle = Vec::new();
    for Rights { user, needs, refused } in ALL {
        let (allow, deny) = permissions(&text, user);
        let by = |list: &[String], subject: &str| list.iter().filter(|filter| matches(filter, subject)).count();
        for filter in &allow {
            if !needs.iter().any(|need| matches(filter, need) && by(&allow, need) == 1) {
                idle.push(format!("{user:?}: nothing needs {filter}"));
            }
        }
        for filter in &deny {
            if !refused.iter().any(|one| matches(filter, one) && by(&deny, one) == 1 && by(&allow, one) > 0) {
                idle.push(format!("{user:?}: nothing else allows {filter}"));
            }
        }
    }
    assert!(idle.is_empty(), "{}", idle.join("\n"));
}

/// Returns what the configuration lets a user publish, and what it denies of that.
fn permissions(text: &str, user: User) -> (Vec<String>, Vec<String>) {
    let start = text.find(&format!("user: {}\n", user.name())).unwrap();
    let end = text[start..].find("subscribe").unwrap();
    let (_, publish) = text[start..start + end].split_once("publish").unwrap();
    let (allow, deny) = publish.split_once("deny:").unwrap_or((publish, ""));
    // Comments have no quotes.
    let quoted = |part: &str| part.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    (quoted(allow), quoted(deny))
}

/// Whether a subject matches a filter.
fn matches(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// A name of a user of the installation with that prefix.
fn named(user: &str, prefix: &str) -> String {
    if prefix.is_empty() { user.to_owned() } else { format!("{prefix}_{user}") }
}

/// A subject of the installation with that prefix.
fn moved(subject: &str, prefix: &str) -> String {
    if prefix.is_empty() {
        return subject.to_owned();
    }
    let mut subject = subject.replace("HOOKWRIGHT_", &format!("HOOKWRIGHT_{}_", prefix.to_uppercase()));
    for own in ["parked", "dead"] {
        subject = subject.replace(&format!("hookwright.{own}."), &format!("hookwright.{prefix}.{own}."));
    }
    subject.replace("_INBOX_", &format!("_INBOX_{prefix}_"))
}

/// A connection that speaks NATS' protocol by itself: the server says what it refuses before it answers the next ping.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(nats: &Nats, user: User, name: &str) -> Self {
        let stream = TcpStream::connect(nats.servers()[0].address()).await.unwrap();
        let mut connection = Self(BufReader::new(stream));
        let login = json!({ "user": name, "pass": nats.password(user), "verbose": false, "pedantic": false });
        assert!(connection.is_allowed(&format!("CONNECT {login}")).await, "{name} may not log in");
        connection
    }

    async fn may_publish(&mut self, subject: &str) -> bool {
        self.is_allowed(&format!("PUB {subject} 0\r\n")).await
    }

    async fn may_subscribe(&mut self, subject: &str) -> bool {
        let is_allowed = self.is_allowed(&format!("SUB {subject} 1")).await;
        assert!(self.is_allowed("UNSUB 1").await);
        is_allowed
    }

    /// Sends a command, and returns whether the server has no objection.
    async fn is_allowed(&mut self, command: &str) -> bool {
        self.0.write_all(format!("{command}\r\nPING\r\n").as_bytes()).await.unwrap();
        let mut is_allowed = true;
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).await.unwrap(), 0, "the server has ended the connection: {command}");
            match line.trim_end() {
                "PONG" => return is_allowed,
                "PING" => self.0.write_all(b"PONG\r\n").await.unwrap(),
                error if error.starts_with("-ERR") => is_allowed = false,
                _ => {}
            }
        }
    }
}
