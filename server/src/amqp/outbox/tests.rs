use super::*;

/// What waits, as one piece.
fn waits(out: &Outbox) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 64];
    let filled = out.slices(&mut slices);
    slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
}

/// Guards against bytes that are lost, doubled or swapped between copied and shared parts, however the socket takes them.
#[test]
fn bytes_come_out_in_order_whatever_the_socket_takes() {
    for step in [1000, 16 * 1024, 40_000, usize::MAX] {
        let (mut out, mut put, mut got) = (Outbox::default(), Vec::new(), Vec::new());
        for round in 0..40u8 {
            let small = vec![round; 100 + usize::from(round)];
            out.write(|to| to.extend_from_slice(&small));
            put.extend_from_slice(&small);
            let large = vec![round ^ 0xff; 10_000 + usize::from(round) * 1000];
            out.body(Bytes::from(large.clone()));
            put.extend_from_slice(&large);
            let count = waits(&out).len().min(step);
            got.extend_from_slice(&waits(&out)[..count]);
            out.advance(count, |_, _| {});
        }
        while !out.is_empty() {
            let piece = waits(&out);
            let count = piece.len().min(step);
            got.extend_from_slice(&piece[..count]);
            out.advance(count, |_, _| {});
        }
        assert!(got == put, "{step} bytes at a time");
    }
}

#[test]
fn what_has_gone_takes_no_memory() {
    let mut out = Outbox::default();
    // Never empty, so that nothing is given back all at once.
    for _ in 0..1000 {
        out.write(|to| to.extend_from_slice(&[7; 4096]));
        if out.len() > 8192 {
            out.advance(4096, |_, _| {});
        }
    }
    assert!(out.open.len() <= 2 * GONE_BYTES_MAX + 8192, "{} bytes", out.open.len());
}

#[test]
fn credit_is_due_once_its_bytes_are_with_the_kernel() {
    let mut out = Outbox::default();
    let mut due = Vec::new();
    out.write(|to| to.extend_from_slice(&[0; 100]));
    out.mark(ChanId(1), 500);
    out.write(|to| to.extend_from_slice(&[0; 100]));
    out.mark(ChanId(2), 700);
    out.advance(99, |chan, bytes| due.push((chan.0, bytes)));
    assert_eq!(due, []);
    out.advance(1, |chan, bytes| due.push((chan.0, bytes)));
    assert_eq!(due, [(1, 500)]);
    out.advance(100, |chan, bytes| due.push((chan.0, bytes)));
    assert_eq!(due, [(1, 500), (2, 700)]);
}

#[test]
fn small_deliveries_of_a_channel_share_a_mark() {
    let mut out = Outbox::default();
    for _ in 0..100 {
        out.write(|to| to.extend_from_slice(&[0; 50]));
        out.mark(ChanId(1), 10);
    }
    assert_eq!(out.marks.len(), 1);
    let mut due = 0;
    out.advance(5000, |_, bytes| due += bytes);
    assert_eq!(due, 1000);
}
