/*
 * pool.c - the one thread pool: threads wait for a job, run it, and wait again
 */
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "wsurg/alloc.h"

struct ws_pool {
    int size;
    pthread_t *threads;
    pthread_mutex_t lock;
    pthread_cond_t start, end;
    void (*fn)(void *arg, int thread);
    void *arg;
    uint64_t round; // counts runs; a thread works when it changes
    int busy;
    bool quit;
    int next_index; // of threads as they start
};

static void *worker(void *p)
{
    ws_pool *pool = p;
    pthread_mutex_lock(&pool->lock);
    const int index = ++pool->next_index;
    uint64_t seen = 0;
    for (;;) {
        while (pool->round == seen && !pool->quit)
            pthread_cond_wait(&pool->start, &pool->lock);
        if (pool->quit)
            break;
        seen = pool->round;
        pthread_mutex_unlock(&pool->lock);
        pool->fn(pool->arg, index);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0)
            pthread_cond_signal(&pool->end);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

ws_status ws_pool_new(ws_pool **out, int n, ws_err *err)
{
    ws_pool *pool = ws_calloc(1, sizeof *pool);
    pthread_t *threads = ws_calloc((size_t)(n < 1 ? 1 : n), sizeof *threads);
    if (pool == NULL || threads == NULL) {
        ws_free(pool);
        ws_free(threads);
        return ws_fail(err, WS_E_MEMORY, "no memory for the thread pool");
    }
    pool->threads = threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->start, NULL);
    pthread_cond_init(&pool->end, NULL);
    pool->size = 1;
    // signals are the main thread's business
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = 0;
    for (int i = 1; i < n && rc == 0; i++) {
        rc = pthread_create(&threads[pool->size - 1], NULL, worker, pool);
        if (rc == 0)
            pool->size++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        ws_pool_free(pool);
        return ws_fail_sys(err, WS_E_MEMORY, rc, "cannot start %d threads", n);
    }
    *out = pool;
    return WS_OK;
}

int ws_pool_size(const ws_pool *pool)
{
    return pool->size;
}

void ws_pool_run(ws_pool *pool, void (*fn)(void *arg, int thread), void *arg)
{
    pthread_mutex_lock(&pool->lock);
    pool->fn = fn;
    pool->arg = arg;
    pool->busy = pool->size - 1;
    pool->round++;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->lock);
    fn(arg, 0);
    pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0)
        pthread_cond_wait(&pool->end, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

struct for_job {
    size_t n;
    atomic_size_t next;
    void (*fn)(void *arg, size_t i, int thread);
    void *arg;
};

static void for_worker(void *p, int thread)
{
    struct for_job *job = p;
    size_t i;
    while ((i = atomic_fetch_add(&job->next, 1)) < job->n)
        job->fn(job->arg, i, thread);
}

void ws_pool_for(ws_pool *pool, size_t n, void (*fn)(void *arg, size_t i, int thread),
                 void *arg)
{
    struct for_job job = { .n = n, .fn = fn, .arg = arg };
    ws_pool_run(pool, for_worker, &job);
}

void ws_pool_free(ws_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i < pool->size; i++)
        pthread_join(pool->threads[i - 1], NULL);
    pthread_cond_destroy(&pool->start);
    pthread_cond_destroy(&pool->end);
    pthread_mutex_destroy(&pool->lock);
    ws_free(pool->threads);
    ws_free(pool);
}
