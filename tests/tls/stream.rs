//! The stream itself, between two real sockets whose buffers are small: what it holds back, what it says
//! of it, and when it wakes.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::time::Duration;

use piazza::connection::stream::Stream;
use piazza::tls::{Tls, TlsFiles};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::support::{Certificate, SOON, within};

/// A stream under TLS and its peer.
async fn pair() -> (Stream, TlsStream<TcpStream>) {
    let certificate = Certificate::make().await;
    let files = TlsFiles {
        certificate: certificate.file().into(),
        key: certificate.key().into(),
    };
    let tls = Tls::new(files).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let peer = async {
        let tcp = socket
            .connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        certificate.trusted().try_over(tcp).await.unwrap()
    };
    let own = async {
        let (tcp, _) = listener.accept().await.unwrap();
        socket2::SockRef::from(&tcp)
            .set_send_buffer_size(4096)
            .unwrap();
        tls.accept(tcp).await.unwrap()
    };
    let (own, peer) = within(SOON, "TLS", async { tokio::join!(own, peer) }).await;
    (Stream::from(own), peer)
}

async fn writable(stream: &Stream) {
    within(SOON, "room", poll_fn(|cx| stream.poll_writable(cx))).await;
}

async fn readable(stream: &Stream) {
    within(SOON, "input", poll_fn(|cx| stream.poll_readable(cx))).await;
}

/// Writes until the stream takes no more; what it took.
fn fill(stream: &mut Stream, bytes: &[u8]) -> usize {
    let mut taken = 0;
    loop {
        match stream.try_write(&bytes[taken..]) {
            Ok(some) => taken += some,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return taken;
            }
        }
    }
}

#[tokio::test]
async fn a_full_socket_has_one_record_held_back_and_every_byte_of_it_is_progress() {
    let (mut stream, mut peer) = pair().await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut taken = fill(&mut stream, &bytes);
    assert!(
        taken > 0 && taken.is_multiple_of(16_384),
        "whole records: {taken}"
    );
    assert!(stream.is_behind());
    assert!(stream.has_moved(taken));
    // Nobody reads: nothing moves, whatever is tried.
    assert_eq!(fill(&mut stream, &bytes[taken..]), 0);
    assert!(!stream.has_moved(0));

    // The peer's socket is read by little: parts of a record leave, and no plaintext is taken meanwhile.
    let mut parts = 0;
    let mut ciphertext = [0; 1_024];
    let (tcp, _) = peer.get_mut();
    while parts < 3 {
        let _ = within(SOON, "ciphertext", tcp.read(&mut ciphertext))
            .await
            .unwrap();
        let waiting = poll_fn(|cx| stream.poll_writable(cx));
        if tokio::time::timeout(Duration::from_millis(20), waiting)
            .await
            .is_err()
        {
            continue;
        }
        let more = fill(&mut stream, &bytes[taken..]);
        taken += more;
        let moved = stream.has_moved(more);
        assert!(moved || more == 0, "{more} bytes without a byte");
        parts += usize::from(moved && more == 0);
    }
}

#[tokio::test]
async fn what_is_held_back_leaves_whole_and_in_order() {
    let (mut stream, mut peer) = pair().await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut received = vec![0; bytes.len()];
    let sending = async {
        let mut taken = 0;
        while taken < bytes.len() {
            writable(&stream).await;
            match stream.try_write(&bytes[taken..]) {
                Ok(some) => taken += some,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        while stream.is_behind() {
            writable(&stream).await;
            let _ = stream.try_flush();
        }
        within(SOON, "the end", poll_fn(|cx| stream.poll_finish(cx))).await;
    };
    let reading = async {
        peer.read_exact(&mut received).await.unwrap();
        // The end is said, not only there.
        assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0);
    };
    within(4 * SOON, "all of it", async {
        tokio::join!(sending, reading)
    })
    .await;
    assert_eq!(received, bytes);
}

#[tokio::test]
async fn plaintext_that_is_there_already_counts_as_input() {
    let (mut stream, mut peer) = pair().await;
    peer.write_all(&[7; 1_000]).await.unwrap();
    peer.flush().await.unwrap();
    // A read that is smaller than what is there leaves the rest with rustls, and the socket is empty.
    let mut some = [0; 10];
    for _ in 0..100 {
        readable(&stream).await;
        assert_eq!(read(&mut stream, &mut some).await, 10);
    }
    let blocked = stream.try_read(&mut some).unwrap_err();
    assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
    let quiet = poll_fn(|cx| stream.poll_readable(cx));
    let quiet = tokio::time::timeout(Duration::from_millis(50), quiet).await;
    assert!(quiet.is_err(), "there is nothing");

    // So is the peer's word that no more comes, in one go with the last data, on a socket that stays open.
    peer.write_all(b"bye").await.unwrap();
    peer.get_mut().1.send_close_notify();
    peer.flush().await.unwrap();
    readable(&stream).await;
    assert_eq!(read(&mut stream, &mut some).await, 3);
    readable(&stream).await;
    assert_eq!(read(&mut stream, &mut some).await, 0);
}

#[tokio::test]
async fn an_end_that_nobody_said_is_an_error() {
    let (mut stream, mut peer) = pair().await;
    peer.write_all(b"last").await.unwrap();
    peer.flush().await.unwrap();
    let (mut tcp, _) = peer.into_inner();
    tcp.shutdown().await.unwrap();
    let mut some = [0; 10];
    assert_eq!(read(&mut stream, &mut some).await, 4);
    loop {
        readable(&stream).await;
        match stream.try_read(&mut some) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            outcome => {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::UnexpectedEof);
                return;
            }
        }
    }
}

/// New keys, asked for by the peer in the middle of everything, TLS 1.3's only message that wants an answer.
#[tokio::test]
async fn keys_are_renewed_on_the_way() {
    let (mut stream, mut peer) = pair().await;
    let mut some = [0; 100];
    for round in 0..20_u8 {
        peer.get_mut().1.refresh_traffic_keys().unwrap();
        peer.write_all(&[round; 3]).await.unwrap();
        peer.flush().await.unwrap();
        assert_eq!(read(&mut stream, &mut some).await, 3);
        assert_eq!(some[0], round);
        assert_eq!(stream.try_write(&[round; 5]).unwrap(), 5);
        assert!(!stream.is_behind());
        let mut answer = [0; 5];
        within(SOON, "the answer", peer.read_exact(&mut answer))
            .await
            .unwrap();
        assert_eq!(answer, [round; 5]);
    }
}

/// Reads as soon as there is something.
async fn read(stream: &mut Stream, into: &mut [u8]) -> usize {
    loop {
        readable(stream).await;
        match stream.try_read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read.unwrap(),
        }
    }
}
