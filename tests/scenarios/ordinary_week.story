      1  2026-09-21T00:00:00.000000Z  member.added          did:plc:harbourharbourharbour234 is enrolled (by operator)
      2  2026-09-21T00:00:00.000000Z  domain.added          forum.example is enrolled for did:plc:harbourharbourharbour234 (by operator)
      3  2026-09-21T00:00:00.000000Z  key.issued            key 8a6a24ede6a4 (full) is issued to did:plc:harbourharbourharbour234 (by operator)
      4  2026-09-21T00:00:00.000000Z  member.added          did:plc:teashopteashopteashop234 is enrolled (by operator)
      5  2026-09-21T00:00:00.000000Z  domain.added          shop.example is enrolled for did:plc:teashopteashopteashop234 (by operator)
      6  2026-09-21T00:00:00.000000Z  key.issued            key e0097ebff206 (full) is issued to did:plc:teashopteashopteashop234 (by operator)
      7  2026-09-21T09:00:00.000000Z  send.accepted         did:plc:harbourharbourharbour234 sends to 1 recipient from news@forum.example: "Welcome to the harbour" (bulk)
      8  2026-09-21T09:00:00.000000Z  message.queued        message 8 to ann@greylist.example is queued (bulk, for did:plc:harbourharbourharbour234)
      9  2026-09-21T09:00:00.000000Z  attempt.started       message 8: attempt 1 begins
     10  2026-09-21T09:00:00.000000Z  message.deferred      message 8: deferred (transient_failure) at attempt 1, mx.greylist.example (198.41.0.1): 451 4.7.1 "Greylisted, try again later"; next at 2026-09-21T09:00:59.386010Z
     11  2026-09-21T09:00:59.386010Z  attempt.started       message 8: attempt 2 begins
     12  2026-09-21T09:00:59.386010Z  message.deferred      message 8: deferred (transient_failure) at attempt 2, mx.greylist.example (198.41.0.1): 451 4.7.1 "Greylisted, try again later"; next at 2026-09-21T09:06:05.923551Z
     13  2026-09-21T09:06:05.923551Z  attempt.started       message 8: attempt 3 begins
     14  2026-09-21T09:06:05.923551Z  message.deferred      message 8: deferred (transient_failure) at attempt 3, mx.greylist.example (198.41.0.1): 451 4.7.1 "Greylisted, try again later"; next at 2026-09-21T09:19:49.099707Z
     15  2026-09-21T09:19:49.099707Z  attempt.started       message 8: attempt 4 begins
     16  2026-09-21T09:19:49.099707Z  message.sent          message 8: sent at attempt 4 over TLSv1.3, mx.greylist.example (198.41.0.1): 250 2.0.0 "Queued as 1"
     17  2026-09-21T09:30:00.000000Z  send.accepted         did:plc:teashopteashopteashop234 sends to 1 recipient from orders@shop.example: "Your tea is on its way" (transactional)
     18  2026-09-21T09:30:00.000000Z  message.queued        message 18 to bob@kontor.example is queued (transactional, for did:plc:teashopteashopteashop234)
     19  2026-09-21T09:30:00.000000Z  attempt.started       message 18: attempt 1 begins
     20  2026-09-21T09:30:00.000000Z  message.deferred      message 18: deferred (quota_issues) at attempt 1, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-21T09:30:58.104670Z
     21  2026-09-21T09:30:58.104670Z  attempt.started       message 18: attempt 2 begins
     22  2026-09-21T09:30:58.104670Z  message.deferred      message 18: deferred (quota_issues) at attempt 2, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-21T09:36:24.100883Z
     23  2026-09-21T09:31:00.000000Z  send.accepted         did:plc:teashopteashopteashop234 sends to 1 recipient from orders@shop.example: "Your tea is on its way" (transactional)
     24  2026-09-21T09:31:00.000000Z  message.queued        message 24 to carol@kontor.example is queued (transactional, for did:plc:teashopteashopteashop234)
     25  2026-09-21T09:31:00.000000Z  attempt.started       message 24: attempt 1 begins
     26  2026-09-21T09:31:00.000000Z  message.sent          message 24: sent at attempt 1 in the clear, mx.kontor.example (198.41.2.1): 250 2.0.0 "Queued as 1"
     27  2026-09-21T09:36:24.100883Z  attempt.started       message 18: attempt 3 begins
     28  2026-09-21T09:36:24.100883Z  message.deferred      message 18: deferred (quota_issues) at attempt 3, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-21T09:50:08.072570Z
     29  2026-09-21T09:50:08.072570Z  attempt.started       message 18: attempt 4 begins
     30  2026-09-21T09:50:08.072570Z  message.deferred      message 18: deferred (quota_issues) at attempt 4, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-21T10:20:28.979841Z
     31  2026-09-21T10:00:00.000000Z  send.accepted         did:plc:harbourharbourharbour234 sends to 1 recipient from news@forum.example: "We miss you" (bulk)
     32  2026-09-21T10:00:00.000000Z  message.queued        message 32 to old@ruin.example is queued (bulk, for did:plc:harbourharbourharbour234)
     33  2026-09-21T10:00:00.000000Z  attempt.started       message 32: attempt 1 begins
     34  2026-09-21T10:00:00.000000Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 1, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-21T10:01:03.820240Z
     35  2026-09-21T10:01:03.820240Z  attempt.started       message 32: attempt 2 begins
     36  2026-09-21T10:01:03.820240Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 2, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-21T10:05:54.227582Z
     37  2026-09-21T10:05:54.227582Z  attempt.started       message 32: attempt 3 begins
     38  2026-09-21T10:05:54.227582Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 3, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-21T10:20:27.259692Z
     39  2026-09-21T10:20:27.259692Z  attempt.started       message 32: attempt 4 begins
     40  2026-09-21T10:20:27.259692Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 4, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-21T10:50:26.062618Z
     41  2026-09-21T10:20:28.979841Z  attempt.started       message 18: attempt 5 begins
     42  2026-09-21T10:20:28.979841Z  message.deferred      message 18: deferred (quota_issues) at attempt 5, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-21T11:24:02.742064Z
     43  2026-09-21T10:50:26.062618Z  attempt.started       message 32: attempt 5 begins
     44  2026-09-21T10:50:26.062618Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 5, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-21T11:45:15.571942Z
     45  2026-09-21T11:00:00.000000Z  send.accepted         did:plc:teashopteashopteashop234 sends to 1 recipient from orders@shop.example: "Your receipt" (transactional)
     46  2026-09-21T11:00:00.000000Z  message.queued        message 46 to dave@oldtls.example is queued (transactional, for did:plc:teashopteashopteashop234)
     47  2026-09-21T11:00:00.000000Z  attempt.started       message 46: attempt 1 begins
     48  2026-09-21T11:00:00.000000Z  message.sent          message 46: sent at attempt 1 in the clear, mx.oldtls.example (198.41.5.1): 250 2.0.0 "Queued as 1"
     49  2026-09-21T11:24:02.742064Z  attempt.started       message 18: attempt 6 begins
     50  2026-09-21T11:24:02.742064Z  message.deferred      message 18: deferred (quota_issues) at attempt 6, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-21T13:28:46.482642Z
     51  2026-09-21T11:45:15.571942Z  attempt.started       message 32: attempt 6 begins
     52  2026-09-21T11:45:15.571942Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 6, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-21T13:34:49.171907Z
     53  2026-09-21T13:28:46.482642Z  attempt.started       message 18: attempt 7 begins
     54  2026-09-21T13:28:46.482642Z  message.deferred      message 18: deferred (quota_issues) at attempt 7, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-21T17:39:52.221526Z
     55  2026-09-21T13:34:49.171907Z  attempt.started       message 32: attempt 7 begins
     56  2026-09-21T13:34:49.171907Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 7, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-21T17:25:40.841151Z
     57  2026-09-21T17:25:40.841151Z  attempt.started       message 32: attempt 8 begins
     58  2026-09-21T17:25:40.841151Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 8, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-22T01:33:09.811440Z
     59  2026-09-21T17:39:52.221526Z  attempt.started       message 18: attempt 8 begins
     60  2026-09-21T17:39:52.221526Z  message.deferred      message 18: deferred (quota_issues) at attempt 8, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-22T01:57:16.147652Z
     61  2026-09-22T01:33:09.811440Z  attempt.started       message 32: attempt 9 begins
     62  2026-09-22T01:33:09.811440Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 9, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-22T09:27:56.702259Z
     63  2026-09-22T01:57:16.147652Z  attempt.started       message 18: attempt 9 begins
     64  2026-09-22T01:57:16.147652Z  message.deferred      message 18: deferred (quota_issues) at attempt 9, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-22T10:18:03.923748Z
     65  2026-09-22T09:05:00.000000Z  send.accepted         did:plc:harbourharbourharbour234 sends to 3 recipients from news@forum.example: "The weekly digest" (bulk)
     66  2026-09-22T09:05:00.000000Z  message.queued        message 66 to erin@bigmail.example is queued (bulk, for did:plc:harbourharbourharbour234)
     67  2026-09-22T09:05:00.000000Z  message.queued        message 67 to finn@bigmail-too.example is queued (bulk, for did:plc:harbourharbourharbour234)
     68  2026-09-22T09:05:00.000000Z  message.queued        message 68 to gus@bigmail.example is queued (bulk, for did:plc:harbourharbourharbour234)
     69  2026-09-22T09:05:00.000000Z  attempt.started       message 66: attempt 1 begins
     70  2026-09-22T09:05:00.000000Z  attempt.started       message 67: attempt 1 begins
     71  2026-09-22T09:05:00.000000Z  attempt.started       message 68: attempt 1 begins
     72  2026-09-22T09:05:00.000000Z  message.deferred      message 68: deferred (transient_failure) at attempt 1, mx2.bigmail.example (198.41.1.2): 421 4.7.0 "Too many connections from your network, slow down"; next at 2026-09-22T09:05:58.265569Z
     73  2026-09-22T09:05:00.000000Z  message.deferred      message 67: deferred (transient_failure) at attempt 1, mx2.bigmail.example (198.41.1.2): 421 4.7.0 "Too many connections from your network, slow down"; next at 2026-09-22T09:06:05.287783Z
     74  2026-09-22T09:05:00.000000Z  message.deferred      message 66: deferred (transient_failure) at attempt 1, mx2.bigmail.example (198.41.1.2): 421 4.7.0 "Too many connections from your network, slow down"; next at 2026-09-22T09:05:58.164063Z
     75  2026-09-22T09:05:58.164063Z  attempt.started       message 66: attempt 2 begins
     76  2026-09-22T09:05:58.164063Z  message.deferred      message 66: deferred (transient_failure) at attempt 2, mx2.bigmail.example (198.41.1.2): 421 4.7.0 "Too many connections from your network, slow down"; next at 2026-09-22T09:11:04.819236Z
     77  2026-09-22T09:05:58.265569Z  message.deferred      message 68: deferred (transient_failure) at attempt 2: 4.4.1 "not tried, because it failed just now: 421 Too many connections from your network, slow down"; next at 2026-09-22T09:10:57.887149Z
     78  2026-09-22T09:06:05.287783Z  message.deferred      message 67: deferred (transient_failure) at attempt 2: 4.4.1 "not tried, because it failed just now: 421 Too many connections from your network, slow down"; next at 2026-09-22T09:10:48.380249Z
     79  2026-09-22T09:10:48.380249Z  attempt.started       message 67: attempt 3 begins
     80  2026-09-22T09:10:48.380249Z  message.deferred      message 67: deferred (transient_failure) at attempt 3, mx2.bigmail.example (198.41.1.2): 421 4.7.0 "Too many connections from your network, slow down"; next at 2026-09-22T09:25:10.117996Z
     81  2026-09-22T09:10:57.887149Z  message.deferred      message 68: deferred (transient_failure) at attempt 3: 4.4.1 "not tried, because it failed just now: 421 Too many connections from your network, slow down"; next at 2026-09-22T09:26:40.792557Z
     82  2026-09-22T09:11:04.819236Z  message.deferred      message 66: deferred (transient_failure) at attempt 3: 4.4.1 "not tried, because it failed just now: 421 Too many connections from your network, slow down"; next at 2026-09-22T09:25:46.440818Z
     83  2026-09-22T09:25:10.117996Z  attempt.started       message 67: attempt 4 begins
     84  2026-09-22T09:25:10.117996Z  message.deferred      message 67: deferred (transient_failure) at attempt 4, mx2.bigmail.example (198.41.1.2): 421 4.7.0 "Too many connections from your network, slow down"; next at 2026-09-22T09:57:40.171837Z
     85  2026-09-22T09:25:46.440818Z  message.deferred      message 66: deferred (transient_failure) at attempt 4: 4.4.1 "not tried, because it failed just now: 421 Too many connections from your network, slow down"; next at 2026-09-22T09:55:45.183230Z
     86  2026-09-22T09:26:40.792557Z  message.deferred      message 68: deferred (transient_failure) at attempt 4: 4.4.1 "not tried, because it failed just now: 421 Too many connections from your network, slow down"; next at 2026-09-22T09:54:40.684419Z
     87  2026-09-22T09:27:56.702259Z  attempt.started       message 32: attempt 10 begins
     88  2026-09-22T09:27:56.702259Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 10, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-22T17:18:30.173175Z
     89  2026-09-22T09:54:40.684419Z  attempt.started       message 68: attempt 5 begins
     90  2026-09-22T09:54:40.684419Z  message.sent          message 68: sent at attempt 5 over TLSv1.3, mx1.bigmail.example (198.41.1.1): 250 2.0.0 "Queued as 1"
     91  2026-09-22T09:55:45.183230Z  attempt.started       message 66: attempt 5 begins
     92  2026-09-22T09:55:45.183230Z  message.sent          message 66: sent at attempt 5 over TLSv1.3, mx1.bigmail.example (198.41.1.1): 250 2.0.0 "Queued as 2"
     93  2026-09-22T09:57:40.171837Z  attempt.started       message 67: attempt 5 begins
     94  2026-09-22T09:57:40.171837Z  message.sent          message 67: sent at attempt 5 over TLSv1.3, mx1.bigmail.example (198.41.1.1): 250 2.0.0 "Queued as 3"
     95  2026-09-22T10:18:03.923748Z  attempt.started       message 18: attempt 10 begins
     96  2026-09-22T10:18:03.923748Z  message.deferred      message 18: deferred (quota_issues) at attempt 10, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-22T18:22:53.188372Z
     97  2026-09-22T12:00:00.000000Z  send.accepted         did:plc:harbourharbourharbour234 sends to 1 recipient from news@forum.example: "A reply to your post" (bulk)
     98  2026-09-22T12:00:00.000000Z  message.queued        message 98 to hanna@lapsed.example is queued (bulk, for did:plc:harbourharbourharbour234)
     99  2026-09-22T12:00:00.000000Z  attempt.started       message 98: attempt 1 begins
    100  2026-09-22T12:00:00.000000Z  message.sent          message 98: sent at attempt 1 in the clear, mx.lapsed.example (198.41.6.1): 250 2.0.0 "Queued as 1"
    101  2026-09-22T15:00:00.000000Z  send.accepted         did:plc:harbourharbourharbour234 sends to 1 recipient from news@forum.example: "A reply to your post" (bulk)
    102  2026-09-22T15:00:00.000000Z  message.queued        message 102 to ivo@harbour.example is queued (bulk, for did:plc:harbourharbourharbour234)
    103  2026-09-22T15:00:00.000000Z  attempt.started       message 102: attempt 1 begins
    104  2026-09-22T15:00:00.000000Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 1, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T15:00:58.565296Z
    105  2026-09-22T15:00:58.565296Z  attempt.started       message 102: attempt 2 begins
    106  2026-09-22T15:00:58.565296Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 2, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T15:05:42.410386Z
    107  2026-09-22T15:01:00.000000Z  send.accepted         did:plc:harbourharbourharbour234 sends to 1 recipient from login@forum.example: "Your login link" (login-link)
    108  2026-09-22T15:01:00.000000Z  message.queued        message 108 to ivo@harbour.example is queued (login-link, for did:plc:harbourharbourharbour234)
    109  2026-09-22T15:01:00.000000Z  attempt.started       message 108: attempt 1 begins
    110  2026-09-22T15:01:00.000000Z  message.deferred      message 108: deferred (no_answer_from_host) at attempt 1, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T15:01:55.815581Z
    111  2026-09-22T15:01:55.815581Z  attempt.started       message 108: attempt 2 begins
    112  2026-09-22T15:01:55.815581Z  message.deferred      message 108: deferred (no_answer_from_host) at attempt 2, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T15:07:05.326582Z
    113  2026-09-22T15:02:00.000000Z  send.accepted         did:plc:harbourharbourharbour234 sends to 1 recipient from news@forum.example: "A reply to your post" (bulk)
    114  2026-09-22T15:02:00.000000Z  message.queued        message 114 to jo@twins.example is queued (bulk, for did:plc:harbourharbourharbour234)
    115  2026-09-22T15:02:00.000000Z  attempt.started       message 114: attempt 1 begins
    116  2026-09-22T15:02:30.000000Z  message.sent          message 114: sent at attempt 1 in the clear, mx2.twins.example (198.41.4.2): 250 2.0.0 "Queued as 1"
    117  2026-09-22T15:05:42.410386Z  attempt.started       message 102: attempt 3 begins
    118  2026-09-22T15:05:42.410386Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 3, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T15:19:45.232103Z
    119  2026-09-22T15:07:05.326582Z  message.deferred      message 108: deferred (transient_failure) at attempt 3: 4.4.1 "not tried, because it failed just now: no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T15:21:26.074112Z
    120  2026-09-22T15:19:45.232103Z  attempt.started       message 102: attempt 4 begins
    121  2026-09-22T15:19:45.232103Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 4, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T15:47:37.675604Z
    122  2026-09-22T15:21:26.074112Z  message.deferred      message 108: deferred (transient_failure) at attempt 4: 4.4.1 "not tried, because it failed just now: no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T15:51:38.526858Z
    123  2026-09-22T15:47:37.675604Z  attempt.started       message 102: attempt 5 begins
    124  2026-09-22T15:47:37.675604Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 5, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T16:48:56.740557Z
    125  2026-09-22T15:51:38.526858Z  message.bounced       message 108: bounced, expired (transient_failure) at attempt 5: 4.4.1 "not tried, because it failed just now: no connection to 198.41.3.1: Connection refused"
    126  2026-09-22T16:48:56.740557Z  attempt.started       message 102: attempt 6 begins
    127  2026-09-22T16:48:56.740557Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 6, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T18:57:33.991364Z
    128  2026-09-22T17:18:30.173175Z  attempt.started       message 32: attempt 11 begins
    129  2026-09-22T17:18:30.173175Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 11, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-23T02:01:43.463125Z
    130  2026-09-22T18:22:53.188372Z  attempt.started       message 18: attempt 11 begins
    131  2026-09-22T18:22:53.188372Z  message.deferred      message 18: deferred (quota_issues) at attempt 11, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-23T02:37:45.795203Z
    132  2026-09-22T18:57:33.991364Z  attempt.started       message 102: attempt 7 begins
    133  2026-09-22T18:57:33.991364Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 7, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-22T23:09:04.571438Z
    134  2026-09-22T23:09:04.571438Z  attempt.started       message 102: attempt 8 begins
    135  2026-09-22T23:09:04.571438Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 8, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-23T07:04:54.839278Z
    136  2026-09-23T02:01:43.463125Z  attempt.started       message 32: attempt 12 begins
    137  2026-09-23T02:01:43.463125Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 12, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-23T10:37:20.305052Z
    138  2026-09-23T02:37:45.795203Z  attempt.started       message 18: attempt 12 begins
    139  2026-09-23T02:37:45.795203Z  message.deferred      message 18: deferred (quota_issues) at attempt 12, mx.kontor.example (198.41.2.1): 452 4.2.2 "Mailbox full"; next at 2026-09-23T11:21:08.659835Z
    140  2026-09-23T07:04:54.839278Z  attempt.started       message 102: attempt 9 begins
    141  2026-09-23T07:04:54.839278Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 9, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-23T15:22:14.951860Z
    142  2026-09-23T10:37:20.305052Z  attempt.started       message 32: attempt 13 begins
    143  2026-09-23T10:37:20.305052Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 13, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-23T18:43:01.710279Z
    144  2026-09-23T11:21:08.659835Z  attempt.started       message 18: attempt 13 begins
    145  2026-09-23T11:21:08.659835Z  message.sent          message 18: sent at attempt 13 in the clear, mx.kontor.example (198.41.2.1): 250 2.0.0 "Queued as 2"
    146  2026-09-23T12:00:00.000000Z  send.accepted         did:plc:harbourharbourharbour234 sends to 1 recipient from news@forum.example: "Another reply to your post" (bulk)
    147  2026-09-23T12:00:00.000000Z  message.queued        message 147 to hanna@lapsed.example is queued (bulk, for did:plc:harbourharbourharbour234)
    148  2026-09-23T12:00:00.000000Z  message.bounced       message 147: bounced, undeliverable (bad_domain) at attempt 1: 5.1.2 "lapsed.example: no such domain"
    149  2026-09-23T12:00:00.000000Z  recipient.suppressed  did:plc:harbourharbourharbour234 may not write to hanna@lapsed.example: bounced
    150  2026-09-23T15:22:14.951860Z  attempt.started       message 102: attempt 10 begins
    151  2026-09-23T15:22:14.951860Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 10, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-23T22:52:32.862796Z
    152  2026-09-23T18:43:01.710279Z  attempt.started       message 32: attempt 14 begins
    153  2026-09-23T18:43:01.710279Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 14, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-24T03:29:33.395659Z
    154  2026-09-23T22:52:32.862796Z  attempt.started       message 102: attempt 11 begins
    155  2026-09-23T22:52:32.862796Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 11, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-24T06:46:50.873558Z
    156  2026-09-24T03:29:33.395659Z  attempt.started       message 32: attempt 15 begins
    157  2026-09-24T03:29:33.395659Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 15, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-24T10:52:06.582696Z
    158  2026-09-24T06:46:50.873558Z  attempt.started       message 102: attempt 12 begins
    159  2026-09-24T06:46:50.873558Z  message.deferred      message 102: deferred (no_answer_from_host) at attempt 12, mx.harbour.example (198.41.3.1): 4.4.1 "no connection to 198.41.3.1: Connection refused"; next at 2026-09-24T14:56:31.062579Z
    160  2026-09-24T10:52:06.582696Z  attempt.started       message 32: attempt 16 begins
    161  2026-09-24T10:52:06.582696Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 16, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-24T18:13:56.289179Z
    162  2026-09-24T12:00:00.000000Z  send.accepted         did:plc:teashopteashopteashop234 sends to 1 recipient from orders@shop.example: "Your tea is on its way" (transactional)
    163  2026-09-24T12:00:00.000000Z  message.queued        message 163 to kim@hasty.example is queued (transactional, for did:plc:teashopteashopteashop234)
    164  2026-09-24T12:00:00.000000Z  attempt.started       message 163: attempt 1 begins
    165  2026-09-24T12:00:00.000000Z  message.deferred      message 163: deferred (bad_connection) at attempt 1, mx.hasty.example (198.41.9.1): 4.4.2 "the connection was closed, end of data was not answered"; next at 2026-09-24T12:01:00.439424Z
    166  2026-09-24T12:01:00.439424Z  attempt.started       message 163: attempt 2 begins
    167  2026-09-24T12:01:00.439424Z  message.deferred      message 163: deferred (bad_connection) at attempt 2, mx.hasty.example (198.41.9.1): 4.4.2 "the connection was closed, end of data was not answered"; next at 2026-09-24T12:06:27.376350Z
    168  2026-09-24T12:06:27.376350Z  attempt.started       message 163: attempt 3 begins
    169  2026-09-24T12:06:27.376350Z  message.sent          message 163: sent at attempt 3 in the clear, mx.hasty.example (198.41.9.1): 250 2.0.0 "Queued as 1"
    170  2026-09-24T14:56:31.062579Z  attempt.started       message 102: attempt 13 begins
    171  2026-09-24T14:56:31.062579Z  message.sent          message 102: sent at attempt 13 in the clear, mx.harbour.example (198.41.3.1): 250 2.0.0 "Queued as 1"
    172  2026-09-24T18:13:56.289179Z  attempt.started       message 32: attempt 17 begins
    173  2026-09-24T18:13:56.289179Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 17, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-25T01:45:54.096632Z
    174  2026-09-25T01:45:54.096632Z  attempt.started       message 32: attempt 18 begins
    175  2026-09-25T01:45:54.096632Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 18, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-25T09:34:01.177756Z
    176  2026-09-25T09:34:01.177756Z  attempt.started       message 32: attempt 19 begins
    177  2026-09-25T09:34:01.177756Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 19, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-25T17:46:55.376928Z
    178  2026-09-25T10:15:00.000000Z  send.accepted         did:plc:teashopteashopteashop234 sends to 1 recipient from orders@shop.example: "Reset your password" (password-reset)
    179  2026-09-25T10:15:00.000000Z  message.queued        message 179 to lea@moor.example is queued (password-reset, for did:plc:teashopteashopteashop234)
    180  2026-09-25T10:15:00.000000Z  message.deferred      message 179: deferred (dns_failure) at attempt 1: 4.4.3 "moor.example: MX lookup: SERVFAIL"; next at 2026-09-25T10:16:01.227350Z
    181  2026-09-25T10:16:01.227350Z  message.deferred      message 179: deferred (dns_failure) at attempt 2: 4.4.3 "moor.example: MX lookup: SERVFAIL"; next at 2026-09-25T10:20:59.676438Z
    182  2026-09-25T10:20:59.676438Z  message.deferred      message 179: deferred (dns_failure) at attempt 3: 4.4.3 "moor.example: MX lookup: SERVFAIL"; next at 2026-09-25T10:34:50.440071Z
    183  2026-09-25T10:34:50.440071Z  message.deferred      message 179: deferred (dns_failure) at attempt 4: 4.4.3 "moor.example: MX lookup: SERVFAIL"; next at 2026-09-25T11:04:46.144572Z
    184  2026-09-25T11:04:46.144572Z  attempt.started       message 179: attempt 5 begins
    185  2026-09-25T11:04:46.144572Z  message.sent          message 179: sent at attempt 5 in the clear, mx.moor.example (198.41.7.1): 250 2.0.0 "Queued as 1"
    186  2026-09-25T17:46:55.376928Z  attempt.started       message 32: attempt 20 begins
    187  2026-09-25T17:46:55.376928Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 20, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-26T01:45:02.452731Z
    188  2026-09-26T01:45:02.452731Z  attempt.started       message 32: attempt 21 begins
    189  2026-09-26T01:45:02.452731Z  message.deferred      message 32: deferred (no_answer_from_host) at attempt 21, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"; next at 2026-09-26T09:26:58.722061Z
    190  2026-09-26T09:26:58.722061Z  attempt.started       message 32: attempt 22 begins
    191  2026-09-26T09:26:58.722061Z  message.bounced       message 32: bounced, expired (no_answer_from_host) at attempt 22, mx.ruin.example (198.41.8.1): 4.4.1 "no connection to 198.41.8.1: Connection refused"
