//! A name server on this machine that says of each answer whether it was validated: asks another one, and sets the AD bit as a
//! test wants it. What it finds forged it answers with SERVFAIL, and of some it says nothing.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_server::proto::op::Message;
use hickory_server::proto::op::ResponseCode::ServFail;
use tokio::net::UdpSocket;

/// What it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Signed,
    Unsigned,
    Forged,
    /// It does not answer.
    Silent,
}

/// What it finds of a name.
pub type Finds = fn(&str) -> Finding;

pub struct Vouching {
    pub address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Vouching {
    /// Asks this one.
    pub async fn start(behind: SocketAddr, finding: Finds) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut octets = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut octets).await {
                if let Some(answer) = answer(behind, &octets[..length], finding).await {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        Self { address, serving }
    }
}

impl Drop for Vouching {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(behind: SocketAddr, question: &[u8], finding: Finds) -> Option<Vec<u8>> {
    let asking = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    asking.send_to(question, behind).await.unwrap();
    let mut octets = [0; 4096];
    let length = asking.recv(&mut octets).await.unwrap();
    let mut message = Message::from_vec(&octets[..length]).unwrap();
    let name = message.queries[0].name().to_ascii();
    match finding(&name) {
        Finding::Signed => message.metadata.authentic_data = true,
        Finding::Unsigned => message.metadata.authentic_data = false,
        Finding::Forged => {
            message.metadata.response_code = ServFail;
            message.answers.clear();
        }
        Finding::Silent => return None,
    }
    // RFC 6840 section 5.7: who does not ask is not told.
    let asked = Message::from_vec(question).unwrap();
    let told = asked.metadata.authentic_data || asked.edns.is_some_and(|edns| edns.flags().dnssec_ok);
    message.metadata.authentic_data &= told;
    Some(message.to_vec().unwrap())
}
