//! Class and method numbers, as the specification has them.

/// A class and a method.
pub type Id = (u16, u16);

/// connection.start
pub const CONNECTION_START: Id = (10, 10);
/// connection.start-ok
pub const CONNECTION_START_OK: Id = (10, 11);
/// connection.tune
pub const CONNECTION_TUNE: Id = (10, 30);
/// connection.tune-ok
pub const CONNECTION_TUNE_OK: Id = (10, 31);
/// connection.open
pub const CONNECTION_OPEN: Id = (10, 40);
/// connection.open-ok
pub const CONNECTION_OPEN_OK: Id = (10, 41);
/// connection.close
pub const CONNECTION_CLOSE: Id = (10, 50);
/// connection.close-ok
pub const CONNECTION_CLOSE_OK: Id = (10, 51);
/// connection.update-secret
pub const CONNECTION_UPDATE_SECRET: Id = (10, 70);
/// connection.update-secret-ok
pub const CONNECTION_UPDATE_SECRET_OK: Id = (10, 71);
/// channel.open
pub const CHANNEL_OPEN: Id = (20, 10);
/// channel.open-ok
pub const CHANNEL_OPEN_OK: Id = (20, 11);
/// channel.close
pub const CHANNEL_CLOSE: Id = (20, 40);
/// channel.close-ok
pub const CHANNEL_CLOSE_OK: Id = (20, 41);
/// exchange.declare
pub const EXCHANGE_DECLARE: Id = (40, 10);
/// exchange.declare-ok
pub const EXCHANGE_DECLARE_OK: Id = (40, 11);
/// exchange.delete
pub const EXCHANGE_DELETE: Id = (40, 20);
/// exchange.delete-ok
pub const EXCHANGE_DELETE_OK: Id = (40, 21);
/// exchange.bind
pub const EXCHANGE_BIND: Id = (40, 30);
/// exchange.bind-ok
pub const EXCHANGE_BIND_OK: Id = (40, 31);
/// exchange.unbind
pub const EXCHANGE_UNBIND: Id = (40, 40);
/// exchange.unbind-ok
pub const EXCHANGE_UNBIND_OK: Id = (40, 51);
/// queue.declare
pub const QUEUE_DECLARE: Id = (50, 10);
/// queue.declare-ok
pub const QUEUE_DECLARE_OK: Id = (50, 11);
/// queue.bind
pub const QUEUE_BIND: Id = (50, 20);
/// queue.bind-ok
pub const QUEUE_BIND_OK: Id = (50, 21);
/// queue.purge
pub const QUEUE_PURGE: Id = (50, 30);
/// queue.purge-ok
pub const QUEUE_PURGE_OK: Id = (50, 31);
/// queue.delete
pub const QUEUE_DELETE: Id = (50, 40);
/// queue.delete-ok
pub const QUEUE_DELETE_OK: Id = (50, 41);
/// queue.unbind
pub const QUEUE_UNBIND: Id = (50, 50);
/// queue.unbind-ok
pub const QUEUE_UNBIND_OK: Id = (50, 51);
/// basic.qos
pub const BASIC_QOS: Id = (60, 10);
/// basic.qos-ok
pub const BASIC_QOS_OK: Id = (60, 11);
/// basic.consume
pub const BASIC_CONSUME: Id = (60, 20);
/// basic.consume-ok
pub const BASIC_CONSUME_OK: Id = (60, 21);
/// basic.publish
pub const BASIC_PUBLISH: Id = (60, 40);
/// basic.return
pub const BASIC_RETURN: Id = (60, 50);
/// basic.deliver
pub const BASIC_DELIVER: Id = (60, 60);
/// basic.get
pub const BASIC_GET: Id = (60, 70);
/// basic.get-ok
pub const BASIC_GET_OK: Id = (60, 71);
/// basic.get-empty
pub const BASIC_GET_EMPTY: Id = (60, 72);
/// basic.ack
pub const BASIC_ACK: Id = (60, 80);
/// basic.reject
pub const BASIC_REJECT: Id = (60, 90);
/// basic.nack
pub const BASIC_NACK: Id = (60, 120);
/// confirm.select
pub const CONFIRM_SELECT: Id = (85, 10);
/// confirm.select-ok
pub const CONFIRM_SELECT_OK: Id = (85, 11);
/// tx.select
pub const TX_SELECT: Id = (90, 10);
/// tx.select-ok
pub const TX_SELECT_OK: Id = (90, 11);
/// tx.commit
pub const TX_COMMIT: Id = (90, 20);
/// tx.commit-ok
pub const TX_COMMIT_OK: Id = (90, 21);
/// tx.rollback
pub const TX_ROLLBACK: Id = (90, 30);
/// tx.rollback-ok
pub const TX_ROLLBACK_OK: Id = (90, 31);
