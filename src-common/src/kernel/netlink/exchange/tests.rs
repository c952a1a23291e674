use proptest::prelude::*;

use super::*;

const SEQUENCE: u32 = 7;

/// What `ip link add type nonsense` gets of Linux 6.18, with NETLINK_CAP_ACK on.
#[rustfmt::skip]
const REFUSED: [u8; 60] = [
    0x3c, 0, 0, 0, 0x02, 0, 0x00, 0x03, 7, 0, 0, 0, 0x2a, 0, 0, 0, // 60 bytes, NLMSG_ERROR, CAPPED | ACK_TLVS
    0xa1, 0xff, 0xff, 0xff, // -95, EOPNOTSUPP
    0x30, 0, 0, 0, 0x10, 0, 0x05, 0x06, 7, 0, 0, 0, 0, 0, 0, 0, // the request's header, of 48 bytes
    0x18, 0, 0x01, 0, // 24 bytes, NLMSGERR_ATTR_MSG
    b'U', b'n', b'k', b'n', b'o', b'w', b'n', b' ', b'd', b'e', b'v', b'i', b'c', b'e', b' ', b't', b'y', b'p',
    b'e', 0,
];

/// A message of this exchange, padded.
fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn payloads(exchange: Exchange) -> Option<Vec<Vec<u8>>> {
    Some(exchange.answers()?.into_iter().map(|answer| answer.payload).collect())
}

#[test]
fn a_refusal_gives_the_kernels_own_words() {
    let refusal = Exchange::new(SEQUENCE).take(&REFUSED).unwrap_err();
    assert_eq!(refusal.refusal(), Some(Errno::EOPNOTSUPP));
    assert_eq!(refusal.to_string(), "the kernel refuses (`Unknown device type`)");
}

#[test]
fn a_refusal_that_repeats_the_request_gives_them_too() {
    let mut repeated = REFUSED.to_vec();
    repeated[7] = 0x02;
    repeated.splice(36..36, [0xff; 32]);
    repeated[0] = 92;
    let refusal = Exchange::new(SEQUENCE).take(&repeated).unwrap_err();
    assert_eq!(refusal.to_string(), "the kernel refuses (`Unknown device type`)");
}

#[test]
fn a_refusal_without_words_is_one() {
    let mut silent = REFUSED[..36].to_vec();
    (silent[0], silent[7]) = (36, 0x01);
    let refusal = Exchange::new(SEQUENCE).take(&silent).unwrap_err();
    assert_eq!(crate::error::chain(&refusal), format!("the kernel refuses: {}", Errno::EOPNOTSUPP));
}

#[test]
fn an_answer_and_its_acknowledgement_end_an_exchange() {
    let mut exchange = Exchange::new(SEQUENCE);
    assert!(!exchange.take(&message(16, 0, SEQUENCE, b"one")).unwrap());
    assert!(exchange.take(&message(NLMSG_ERROR, 0, SEQUENCE, &[0; 20])).unwrap());
    assert_eq!(payloads(exchange), Some(vec![b"one".to_vec()]));
}

#[test]
fn a_list_spans_messages_and_datagrams() {
    let mut exchange = Exchange::new(SEQUENCE);
    let first = [message(16, 2, SEQUENCE, b"one"), message(16, 2, SEQUENCE, b"two!")].concat();
    assert!(!exchange.take(&first).unwrap());
    let last = [message(16, 2, SEQUENCE, b"three"), message(NLMSG_DONE, 2, SEQUENCE, &[0; 4])].concat();
    assert!(exchange.take(&last).unwrap());
    assert_eq!(payloads(exchange), Some(vec![b"one".to_vec(), b"two!".to_vec(), b"three".to_vec()]));
}

#[test]
fn a_list_may_end_in_a_refusal() {
    let done = message(NLMSG_DONE, 2, SEQUENCE, &(-95_i32).to_ne_bytes());
    assert_eq!(Exchange::new(SEQUENCE).take(&done).unwrap_err().refusal(), Some(Errno::EOPNOTSUPP));
}

#[test]
fn a_list_of_two_states_is_none() {
    let mut exchange = Exchange::new(SEQUENCE);
    let list =
        [message(16, 2 | NLM_F_DUMP_INTR, SEQUENCE, b"one"), message(NLMSG_DONE, 2, SEQUENCE, &[])].concat();
    assert!(exchange.take(&list).unwrap());
    assert_eq!(payloads(exchange), None);
}

#[test]
fn answers_to_a_request_that_was_given_up_are_passed_over() {
    let mut exchange = Exchange::new(SEQUENCE);
    assert!(!exchange.take(&message(16, 0, SEQUENCE - 1, b"late")).unwrap());
    assert!(!exchange.take(&message(NLMSG_ERROR, 0, SEQUENCE - 1, &[0; 20])).unwrap());
    assert_eq!(payloads(exchange), Some(Vec::new()));
}

#[test]
fn half_a_message_is_malformed() {
    for cut in [1, 15, 40] {
        let error = Exchange::new(SEQUENCE).take(&REFUSED[..cut]).unwrap_err();
        assert!(matches!(error, NetlinkError::Malformed(_)), "{cut}: {error}");
    }
    let numberless = message(NLMSG_ERROR, 0, SEQUENCE, &[0; 3]);
    assert!(matches!(Exchange::new(SEQUENCE).take(&numberless), Err(NetlinkError::Malformed(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Exchange::new(SEQUENCE).take(&bytes);
    }

    /// Headers that are right, with an end that is anything.
    #[test]
    fn no_end_makes_the_reader_panic(
        kind in prop_oneof![Just(NLMSG_ERROR), Just(NLMSG_DONE)],
        flags in any::<u16>(),
        payload in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let _ = Exchange::new(SEQUENCE).take(&message(kind, flags | NLM_F_ACK_TLVS, SEQUENCE, &payload));
    }

    #[test]
    fn the_kernels_words_are_found_behind_any_request(
        number in i32::MIN..0,
        request in prop::collection::vec(any::<u8>(), 0..60),
        words in "[a-zA-Z ]{1,60}",
    ) {
        let mut payload = number.to_ne_bytes().to_vec();
        let repeated = message(16, 0, SEQUENCE, &request);
        payload.extend(&repeated);
        // An attribute that is not ours (NLMSGERR_ATTR_OFFS) comes first.
        payload.extend([8, 0, 2, 0, 1, 0, 0, 0]);
        payload.extend(u16::try_from(words.len() + 5).unwrap().to_ne_bytes());
        payload.extend(ATTR_MESSAGE.to_ne_bytes());
        payload.extend(words.bytes().chain([0]));
        let refusal = Exchange::new(SEQUENCE).take(&message(NLMSG_ERROR, NLM_F_ACK_TLVS, SEQUENCE, &payload));
        let said = matches!(&refusal, Err(NetlinkError::Refused { message: Some(said), .. }) if *said == words);
        prop_assert!(said, "{:?}", refusal);
    }
}
