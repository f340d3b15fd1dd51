package org.meltemi.trpc;

import com.google.protobuf.StringValue;
import com.tencent.trpc.core.exception.TRpcException;
import com.tencent.trpc.core.rpc.RpcContext;
import com.tencent.trpc.core.rpc.anno.TRpcMethod;
import com.tencent.trpc.core.rpc.anno.TRpcService;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Streams of the three shapes. trpc-java serves them on a port of their own. */
@TRpcService(name = "trpc.meltemi.tests.JavaStreams")
public interface Streams {

    /** As many messages as the text says. */
    @TRpcMethod(name = "Count")
    Flux<StringValue> count(RpcContext context, StringValue request);

    /** How many messages came. */
    @TRpcMethod(name = "Collect")
    Mono<StringValue> collect(RpcContext context, Publisher<StringValue> requests);

    /** Sends back what comes, with the server's name before it. */
    @TRpcMethod(name = "Talk")
    Flux<StringValue> talk(RpcContext context, Publisher<StringValue> requests);

    /** Ends with an error of its own after the first message. */
    @TRpcMethod(name = "Refuse")
    Flux<StringValue> refuse(RpcContext context, Publisher<StringValue> requests);

    /** The server. */
    final class Server implements Streams {

        private final String name;

        Server(String name) {
            this.name = name;
        }

        @Override
        public Flux<StringValue> count(RpcContext context, StringValue request) {
            return Flux.range(0, Integer.parseInt(request.getValue())).map(n -> StringValue.of(name + ": " + n));
        }

        @Override
        public Mono<StringValue> collect(RpcContext context, Publisher<StringValue> requests) {
            return Flux.from(requests).count().map(count -> StringValue.of(name + ": " + count));
        }

        @Override
        public Flux<StringValue> talk(RpcContext context, Publisher<StringValue> requests) {
            return Flux.from(requests).map(request -> StringValue.of(name + ": " + request.getValue()));
        }

        @Override
        public Flux<StringValue> refuse(RpcContext context, Publisher<StringValue> requests) {
            return Flux.from(requests).map(request -> {
                throw TRpcException.newFrameException(10001, request.getValue());
            });
        }
    }
}
