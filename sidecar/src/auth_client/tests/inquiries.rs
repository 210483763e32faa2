//! Questions that are put together.

use super::*;

fn many(f: &Fixture, count: u8) -> Vec<Presented> {
    let tokens: Vec<Presented> = (100..100 + count).map(|n| token(u64::from(n))).collect();
    for token in &tokens {
        f.knows(token, &format!("owner-of-{}", token.id()));
    }
    tokens
}

fn asking(f: &Fixture, tokens: &[Presented]) -> Vec<tokio::task::JoinHandle<Result<Exchanged, Unavailable>>> {
    let ask = |token: &Presented| {
        let (client, token) = (f.client.clone(), token.clone());
        tokio::spawn(async move { client.exchange(&token, Outage::Deny).await })
    };
    tokens.iter().map(ask).collect()
}

fn requests(f: &Fixture, path: &str) -> usize {
    let line = format!("POST {path}");
    f.fake.with(|told| told.asked.iter().filter(|asked| **asked == line).count())
}

#[tokio::test(start_paused = true)]
async fn what_comes_together_is_asked_together_and_everyone_gets_their_own_answer() {
    let f = Fixture::leased().await;
    let tokens = many(&f, 30);
    f.forgets(&tokens[3]);
    f.forgets(&tokens[4]);
    f.fake.with(|told| told.unknown.push(tokens[4].expose().to_owned()));
    for (index, answer) in asking(&f, &tokens).into_iter().enumerate() {
        match (index, answer.await.unwrap()) {
            (3, answer) => assert!(matches!(answer, Ok(Exchanged::Inactive))),
            (4, answer) => assert!(answer.is_err(), "not known is not refused"),
            (_, Ok(Exchanged::Active(identity))) => {
                assert_eq!(identity.sub, format!("owner-of-{}", tokens[index].id()));
            }
            (index, other) => panic!("{index}: {other:?}"),
        }
    }
    assert_eq!((requests(&f, internal_api::INTROSPECT_MANY), requests(&f, internal_api::INTROSPECT)), (1, 0));
    assert!(f.client.cached(&tokens[0]).is_some() && f.client.cached(&tokens[4]).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_auth_service_that_answers_one_question_at_a_time_is_asked_so() {
    let f = Fixture::leased().await;
    let tokens = many(&f, 5);
    f.fake.with(|told| {
        told.script = Some(Box::new(|path, _| {
            (path == internal_api::INTROSPECT_MANY).then(|| respond(StatusCode::NOT_FOUND, "{}"))
        }));
    });
    for answer in asking(&f, &tokens) {
        assert!(is_active(&answer.await.unwrap()));
    }
    assert_eq!(requests(&f, internal_api::INTROSPECT), 5);
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_fit_the_questions_are_none() {
    let f = Fixture::leased().await;
    let tokens = many(&f, 3);
    for body in
        ["", "null", "{\"active\":false}\n{\"active\":false}", "[]\n[]\n[]", "{\"active\":false,\"x\":1}\nnull\nnull"]
    {
        f.fake.with(|told| {
            told.script = Some(Box::new(move |path, _| {
                (path == internal_api::INTROSPECT_MANY).then(|| respond(StatusCode::OK, body))
            }));
        });
        for answer in asking(&f, &tokens) {
            assert!(answer.await.unwrap().is_err(), "{body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_the_place_of_anothers_is_not_believed() {
    let f = Fixture::leased().await;
    let tokens = many(&f, 2);
    let lines = f.fake.with(|told| {
        let line = |token: &Presented| serde_json::to_string(&told.active[token.expose()]).unwrap();
        format!("{}\n{}", line(&tokens[1]), line(&tokens[0]))
    });
    f.fake.with(|told| {
        told.script = Some(Box::new(move |path, _| {
            (path == internal_api::INTROSPECT_MANY).then(|| respond(StatusCode::OK, &lines))
        }));
    });
    for answer in asking(&f, &tokens) {
        assert!(answer.await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_a_question_that_hangs_waits_no_longer_than_it() {
    let f = Fixture::leased().await;
    let tokens = many(&f, 8);
    f.fake.with(|told| told.gate = Some(Arc::new(Semaphore::new(0))));
    let mut answers = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        answers.extend(asking(&f, std::slice::from_ref(token)));
        let under_way = (index + 1).min(2);
        f.until(|f| f.fake.introspections() == under_way).await;
    }
    f.settle().await;
    tokio::time::advance(2 * SECOND).await;
    for answer in answers {
        assert!(answer.await.unwrap().is_err());
    }
    assert_eq!(f.fake.introspections(), 2, "the others were never asked about");
}
