//! Guards against a budget that counts wrongly, and so lets too much in or stands still.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// A body of given pieces.
struct Pieces(VecDeque<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }
}

fn framed(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    bytes.resize(HEADER_BYTES + length, 7);
    bytes
}

fn request(budget: &Budget, path: &str, pieces: &[&[u8]]) -> http::Request<Body> {
    let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let request = http::Request::builder().uri(path).body(Body::new(Pieces(pieces))).unwrap();
    budget.wrap(request)
}

fn poll(body: &mut Body) -> Poll<Option<usize>> {
    let frame = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
    frame.map(|frame| frame.map(|frame| frame.unwrap().into_data().unwrap().len()))
}

const LARGE: usize = 100_000;
const UNARY: &str = "/leveret.v1.Broker/Publish";

#[test]
fn a_large_unary_message_holds_its_size_until_it_is_let_go() {
    let budget = Budget::new(300_000);
    let message = framed(LARGE);
    let mut request = request(&budget, UNARY, &[&message[..10], &message[10..]]);
    assert_eq!(poll(request.body_mut()), Poll::Ready(Some(10)));
    assert_eq!(poll(request.body_mut()), Poll::Ready(Some(message.len() - 10)));
    assert_eq!(poll(request.body_mut()), Poll::Ready(None));
    let held = request.extensions().get::<Held>().cloned().unwrap();
    drop(request);
    assert_eq!(budget.permits.available_permits(), 300_000 - LARGE);
    drop(held);
    assert_eq!(budget.permits.available_permits(), 300_000);
}

#[test]
fn a_stream_lets_go_of_a_message_when_it_asks_for_more() {
    let budget = Budget::new(300_000);
    let both = [framed(LARGE), framed(LARGE + 1)].concat();
    let first_and_some = LARGE + 50;
    let pieces = [&both[..10], &both[10..first_and_some], &both[first_and_some..]];
    let mut request = request(&budget, STREAMING[0], &pieces);
    assert!(poll(request.body_mut()).is_ready());
    assert_eq!(budget.permits.available_permits(), 300_000);
    assert!(poll(request.body_mut()).is_ready());
    assert_eq!(budget.permits.available_permits(), 300_000 - LARGE);
    assert!(poll(request.body_mut()).is_ready());
    assert_eq!(budget.permits.available_permits(), 300_000 - LARGE - 1);
    assert_eq!(poll(request.body_mut()), Poll::Ready(None));
    assert_eq!(budget.permits.available_permits(), 300_000);
}

#[test]
fn without_permits_no_more_is_let_in() {
    let budget = Budget::new(150_000);
    let message = framed(LARGE);
    let pieces: [&[u8]; 2] = [&message[..10], &message[10..]];
    let mut first = request(&budget, UNARY, &pieces);
    let mut second = request(&budget, UNARY, &pieces);
    assert!(poll(first.body_mut()).is_ready() && poll(first.body_mut()).is_ready());
    assert!(poll(second.body_mut()).is_ready());
    assert_eq!(poll(second.body_mut()), Poll::Pending);
    drop(first);
    assert!(poll(second.body_mut()).is_ready());
}

#[test]
fn small_messages_and_one_larger_than_all_pass() {
    let budget = Budget::new(150_000);
    let small = framed(FREE_BYTES_MAX);
    let mut request_small = request(&budget, UNARY, &[&small[..10], &small[10..]]);
    assert!(poll(request_small.body_mut()).is_ready() && poll(request_small.body_mut()).is_ready());
    assert_eq!(budget.permits.available_permits(), 150_000);
    let larger = framed(2 * 150_000);
    let mut request_larger = request(&budget, UNARY, &[&larger[..10], &larger[10..]]);
    assert!(poll(request_larger.body_mut()).is_ready() && poll(request_larger.body_mut()).is_ready());
    assert_eq!(budget.permits.available_permits(), 0);
}

#[test]
fn what_came_whole_needs_no_permits() {
    let budget = Budget::new(150_000);
    let message = framed(LARGE);
    let mut request = request(&budget, STREAMING[0], &[&message]);
    assert_eq!(poll(request.body_mut()), Poll::Ready(Some(message.len())));
    assert_eq!(poll(request.body_mut()), Poll::Ready(None));
    assert_eq!(budget.permits.available_permits(), 150_000);
}

#[test]
fn only_so_many_wait_for_room() {
    let budget = Budget::new(150_000);
    let message = framed(LARGE);
    let begun = || {
        let mut request = request(&budget, UNARY, &[&message[..10], &message[10..]]);
        assert!(poll(request.body_mut()).is_ready());
        request
    };
    let mut first = begun();
    assert!(poll(first.body_mut()).is_ready());
    let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| begun()).collect();
    assert!(waiting.iter_mut().all(|request| poll(request.body_mut()).is_pending()));
    let refused = |mut request: http::Request<Body>| {
        let frame = Pin::new(request.body_mut()).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(frame)) = frame else { panic!("it waits") };
        frame.map(drop).map_err(|status| status.code())
    };
    assert_eq!(refused(begun()), Err(tonic::Code::ResourceExhausted));
    // Who goes leaves its place, and who waited is served in turn.
    drop(waiting.pop());
    let mut last = begun();
    assert!(poll(last.body_mut()).is_pending());
    drop(first);
    assert!(poll(waiting[0].body_mut()).is_ready());
    assert!(poll(last.body_mut()).is_pending());
}

/// A budget whose clients have to send 100 kB a second, with little grace.
fn hurried(bytes: u32) -> Budget {
    let pace = Pace { rate: 100_000, grace: Duration::from_millis(200) };
    Budget { pace, ..Budget::new(bytes) }
}

/// The beginning of a message of a megabyte, and then so many bytes at a time.
fn dribble(budget: &Budget, path: &str, bytes: usize, every: Duration) -> Body {
    let message = framed(1_000_000);
    let pieces = body_of(message, bytes, every);
    budget.wrap(http::Request::builder().uri(path).body(pieces).unwrap()).into_body()
}

fn body_of(message: Vec<u8>, bytes: usize, every: Duration) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let (first, rest) = message.split_at(10);
        let _ = sender.send(Bytes::copy_from_slice(first)).await;
        for piece in rest.chunks(bytes) {
            tokio::time::sleep(every).await;
            if sender.send(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
        // A request that does not end.
        sender.closed().await;
    });
    Body::new(Sent(receiver))
}

/// A body of what is sent.
struct Sent(tokio::sync::mpsc::Receiver<Bytes>);

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

/// Reads until so many bytes are there, or the refusal.
async fn read(body: &mut Body, bytes: usize) -> Result<(), Status> {
    let mut came = 0;
    while came < bytes {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.unwrap()?;
        came += frame.into_data().unwrap().len();
    }
    Ok(())
}

/// Guards against a client that keeps the room of a large message with a byte now and then.
#[tokio::test]
async fn who_dribbles_loses_the_room() {
    let budget = hurried(1_000_000);
    for path in [UNARY, STREAMING[0]] {
        let begun = Instant::now();
        let mut body = dribble(&budget, path, 1, Duration::from_millis(20));
        let status = read(&mut body, 1_000_000).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(body);
        assert_eq!(budget.permits.available_permits(), 1_000_000);
    }
}

#[tokio::test]
async fn a_slow_link_comes_to_the_end() {
    let mut body = dribble(&hurried(1_000_000), UNARY, 40_000, Duration::from_millis(50));
    read(&mut body, HEADER_BYTES + 1_000_000).await.unwrap();
}

/// Who needs no permits may not stand still in mid-message either.
#[tokio::test]
async fn a_small_message_has_to_come_to_its_end() {
    let budget = hurried(150_000);
    let pieces = body_of(framed(FREE_BYTES_MAX), 1, Duration::from_millis(20));
    let request = http::Request::builder().uri(STREAMING[0]).body(pieces).unwrap();
    let status = read(&mut budget.wrap(request).into_body(), FREE_BYTES_MAX).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(budget.permits.available_permits(), 150_000);
}

/// Guards against a whole message that is never handled, since its request never ends.
#[tokio::test]
async fn who_does_not_end_a_request_loses_the_room() {
    let pace = Pace { rate: 10_000_000, grace: Duration::from_millis(200) };
    let budget = Budget { pace, ..Budget::new(1_000_000) };
    let mut body = dribble(&budget, UNARY, 500_000, Duration::ZERO);
    read(&mut body, HEADER_BYTES + 1_000_000).await.unwrap();
    let status = read(&mut body, 1).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
}

/// Guards against a client that pays for what the broker lets wait.
#[tokio::test]
async fn only_waiting_for_the_client_counts() {
    let budget = hurried(1_000_000);
    let mut body = dribble(&budget, STREAMING[0], 250_000, Duration::from_millis(20));
    for _ in 0..3 {
        // Nothing is there yet: the broker waits, but does other things when it comes.
        read(&mut body, 1).await.unwrap();
        let looked =
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_pending())).await;
        if looked {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        }
    }
    assert_eq!(budget.permits.available_permits(), 0, "the message is still under way");
}

#[test]
fn nobody_in_particular_sends_small_messages_only() {
    let budget = Budget::new(300_000);
    for (bytes, passes) in [(FREE_BYTES_MAX, true), (FREE_BYTES_MAX + 1, false)] {
        let message = framed(bytes);
        let pieces = [&message[..10], &message[10..]].map(Bytes::copy_from_slice);
        let request = http::Request::new(Body::new(Pieces(pieces.into())));
        let mut body = budget.wrap_of_anybody(request).into_body();
        assert!(poll(&mut body).is_ready());
        let Poll::Ready(Some(next)) = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()))
        else {
            unreachable!()
        };
        assert_eq!(
            next.map(drop).map_err(|status| status.code()).err(),
            (!passes).then_some(tonic::Code::ResourceExhausted)
        );
    }
    assert_eq!(budget.permits.available_permits(), 300_000);
}

proptest! {
    #[test]
    fn framing_is_the_same_however_it_is_cut(
        lengths in proptest::collection::vec(0usize..50, 1..10),
        cuts in proptest::collection::vec(1usize..40, 1..40),
    ) {
        let bytes = lengths.iter().flat_map(|length| framed(*length)).collect::<Vec<_>>();
        let ends: Vec<usize> = lengths.iter().scan(0, |at, length| { *at += HEADER_BYTES + length; Some(*at) }).collect();
        let mut framing = Framing::default();
        let mut at = 0;
        for cut in cuts.iter().cycle() {
            let next = (at + cut).min(bytes.len());
            let ended = framing.pass(&bytes[at..next]);
            prop_assert_eq!(ended, ends.iter().any(|end| at < *end && *end <= next));
            let begun = ends.iter().zip(&lengths).find(|(end, _)| next < **end).filter(|(end, length)| {
                next >= *end - *length
            });
            prop_assert_eq!(framing.unfinished(), begun.map_or(0, |(_, length)| *length));
            at = next;
            if at == bytes.len() { break }
        }
    }
}
