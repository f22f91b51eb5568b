//! Limit of the time that a store has to answer.

use std::time::Duration;

use object_store::{Error, ObjectStore};
use tokio::time::timeout;

/// Waits for the answer to a request. The error after that time names the store and the time.
pub(crate) async fn answer_within<T>(
    patience: Duration,
    store: &dyn ObjectStore,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(patience, request).await.unwrap_or_else(|_| {
        let source = format!("{store} did not answer within {patience:?}").into();
        Err(Error::Generic { store: "store", source })
    })
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::error::is_transient;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_named_with_the_time() {
        let store = InMemory::new();
        let answer = async |patience, request| answer_within(patience, &store, request).await;
        let ready = || futures::future::ready(Ok(1));
        assert_eq!(answer(Duration::MAX, ready()).await.unwrap(), 1);
        let silent = std::future::pending::<Result<(), Error>>();
        let error = answer_within(Duration::from_secs(5), &store, silent).await.unwrap_err();
        assert!(is_transient(&error));
        assert!(error.to_string().contains("InMemory did not answer within 5s"), "{error}");
    }
}
