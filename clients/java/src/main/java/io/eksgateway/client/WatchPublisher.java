package io.eksgateway.client;

import java.util.concurrent.Flow;
import java.util.concurrent.SubmissionPublisher;
import java.util.function.Supplier;

/** Publishes the states of a watch. Each subscription is a watch of its own, on a daemon thread of its own. */
final class WatchPublisher implements Flow.Publisher<State> {
  private final Supplier<Watch> watches;

  WatchPublisher(Supplier<Watch> watches) {
    this.watches = watches;
  }

  @Override
  public void subscribe(Flow.Subscriber<? super State> subscriber) {
    Watch watch;
    try {
      watch = watches.get();
    } catch (GatewayException e) { // the client is closed
      var failed = new SubmissionPublisher<State>(Runnable::run, 1);
      failed.subscribe(subscriber);
      failed.closeExceptionally(e);
      return;
    }
    var thread = new Thread(new Subscription(subscriber, watch), "eksgateway-watch");
    thread.setDaemon(true);
    thread.start();
  }

  private static final class Subscription implements Flow.Subscription, Runnable {
    private final Flow.Subscriber<? super State> subscriber;
    private final Watch watch;
    private long demand;
    private boolean cancelled;
    private boolean misused;

    Subscription(Flow.Subscriber<? super State> subscriber, Watch watch) {
      this.subscriber = subscriber;
      this.watch = watch;
    }

    @Override
    public synchronized void request(long n) {
      misused |= n <= 0;
      demand = demand + n < 0 ? Long.MAX_VALUE : demand + n;
      notifyAll();
    }

    @Override
    public synchronized void cancel() {
      cancelled = true;
      watch.close();
      notifyAll();
    }

    @Override
    public void run() {
      try (watch) {
        subscriber.onSubscribe(this);
        while (awaitDemand() && watch.hasNext()) {
          State state = watch.next();
          if (isCancelled()) {
            return;
          }
          subscriber.onNext(state);
          if (state.isFinal()) {
            subscriber.onComplete();
            return;
          }
        }
      } catch (GatewayException | IllegalArgumentException | InterruptedException e) {
        if (!isCancelled()) {
          subscriber.onError(e);
        }
      }
    }

    private synchronized boolean isCancelled() {
      return cancelled;
    }

    private synchronized boolean awaitDemand() throws InterruptedException {
      while (demand == 0 && !cancelled && !misused) {
        wait();
      }
      if (misused) {
        throw new IllegalArgumentException("request more than 0 states");
      }
      demand--;
      return !cancelled;
    }
  }
}
